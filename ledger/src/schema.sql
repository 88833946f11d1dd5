-- Format 2. `contract` is written once per channel. What an open channel has paid and spent is at most a second
-- younger in the log of payments than in `channel`.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY, -- 'fingerprint', 'epoch' (drawn by the last transaction),
                            -- 'cursor_height', 'cursor_hash', 'trail', 'restored'
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE contract (
    id          INTEGER PRIMARY KEY,
    outpoint    BLOB    NOT NULL UNIQUE, -- 36 bytes, as in a transaction
    network     TEXT    NOT NULL,
    kind        TEXT    NOT NULL, -- 'refund' or 'cltv'
    gateway_key BLOB    NOT NULL, -- S, 65 bytes: to be read without computing a square root
    client_key  BLOB    NOT NULL, -- C, 65 bytes
    expiry      INTEGER NOT NULL, -- T, Unix seconds
    capacity    INTEGER NOT NULL, -- sat
    payout      BLOB    NOT NULL, -- the client's output script
    least       INTEGER NOT NULL  -- sat, the least that a close settles for
) STRICT;

-- Charged requests that their client has named with an Idempotency-Key, for 24 hours.
CREATE TABLE attempt (
    contract INTEGER NOT NULL REFERENCES contract (id),
    key      BLOB    NOT NULL, -- SHA-256 of the client's key
    request  BLOB    NOT NULL, -- SHA-256 of what the request is
    paid     INTEGER NOT NULL, -- sat, as the receipt said
    spent    INTEGER NOT NULL, -- msat
    credit   INTEGER NOT NULL, -- msat
    price    INTEGER NOT NULL, -- msat
    answered INTEGER NOT NULL, -- 1 once an answer was begun
    at       INTEGER NOT NULL, -- Unix seconds
    PRIMARY KEY (contract, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempt_at ON attempt (at);

-- A settlement, for all the channels that it settles. Those that others have taken the place of are
-- removed at the next start.
CREATE TABLE settlement (
    id          INTEGER PRIMARY KEY,
    txid        BLOB    NOT NULL UNIQUE,
    raw         BLOB    NOT NULL, -- the transaction, complete
    fee         INTEGER NOT NULL, -- sat
    share       INTEGER NOT NULL  -- sat, the gateway's output
) STRICT;

CREATE TABLE channel (
    contract     INTEGER PRIMARY KEY REFERENCES contract (id),
    paid         INTEGER NOT NULL, -- sat
    signature    BLOB    NOT NULL, -- the client's, over paid
    spent        INTEGER NOT NULL, -- msat
    stale        INTEGER NOT NULL, -- 1 from a restore until the client has shown its newest payment
    state        TEXT    NOT NULL, -- 'pending', 'late', 'open', 'closing' or 'ended'
    used_at      INTEGER NOT NULL, -- Unix seconds, of the newest payment
    height       INTEGER,          -- of the contract's block, while it is in one
    coins        BLOB,             -- that an unconfirmed contract is made of, 36 bytes each
    cause        TEXT,             -- of the close: 'client', 'exhausted', 'expiring', 'idle',
                                   -- 'operator' or 'spent'
    since        INTEGER,          -- Unix seconds, of the close
    written_off  INTEGER,          -- 1 once no settlement is wanted any more
    settlement   INTEGER REFERENCES settlement (id),
    mined_txid   BLOB,             -- of the transaction that spent the contract
    mined_height INTEGER,
    mined_by     TEXT,             -- 'settlement', 'refund' or 'double-spend'
    settled      INTEGER           -- sat, what that took for the gateway, before the fee
) STRICT;
