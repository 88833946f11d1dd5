-- What makes tables of format 4 of those of format 3.
ALTER TABLE channel ADD COLUMN shown INTEGER NOT NULL DEFAULT 0;
-- Whatever has come so far may have been shown.
UPDATE channel SET shown = 1 WHERE stage = 'held';
