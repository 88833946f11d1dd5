-- What channels of an older format have paid counts from before any day.
INSERT INTO signed SELECT outpoint, origin, coalesce(paid, first_payment), 0, 0, 0 FROM channel;
