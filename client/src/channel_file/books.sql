
-- What is signed for, one row per channel. A row stays when its channel has ended.
CREATE TABLE signed (
    channel TEXT    PRIMARY KEY, -- its outpoint
    origin  TEXT    NOT NULL,    -- scheme, host and port of the server
    sat     INTEGER NOT NULL,    -- the greatest payment, or the first one that is about to be signed
    day     INTEGER NOT NULL,    -- when that has grown last, in days since 1970 (UTC)
    before  INTEGER NOT NULL,    -- sat: what it was before that day
    doubted INTEGER NOT NULL     -- msat: what the gateway was believed to have charged without a
                                 -- signature that bears it out, less what was paid for since
) STRICT;

-- One row per request that was paid for, the newest for a year.
CREATE TABLE purchase (
    number  INTEGER PRIMARY KEY,
    time    INTEGER NOT NULL,    -- when it was signed for, Unix seconds
    origin  TEXT    NOT NULL,
    method  TEXT    NOT NULL,
    path    TEXT    NOT NULL,    -- without the query
    channel TEXT    NOT NULL,
    price   INTEGER NOT NULL,    -- msat
    cost    INTEGER              -- msat; NULL where it is not known
) STRICT;
CREATE INDEX purchase_time ON purchase (time);
