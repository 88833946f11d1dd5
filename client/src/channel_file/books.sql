
-- What is signed for, one row per channel. A row stays when its channel has ended.
CREATE TABLE signed (
    channel TEXT    PRIMARY KEY, -- its outpoint
    origin  TEXT    NOT NULL,    -- scheme, host and port of the server
    sat     INTEGER NOT NULL,    -- the greatest payment, or the first one that is about to be signed
    day     INTEGER NOT NULL,    -- when that has grown last, in days since 1970 (UTC)
    before  INTEGER NOT NULL     -- sat: what it was before that day
) STRICT;
