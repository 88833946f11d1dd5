-- Format 1. `contract` is written once per channel; `channel` is rewritten by every payment.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY, -- 'fingerprint', 'cursor_height', 'cursor_hash', 'restored'
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE contract (
    id          INTEGER PRIMARY KEY,
    outpoint    BLOB    NOT NULL UNIQUE, -- 36 bytes, as in a transaction
    network     TEXT    NOT NULL,
    kind        TEXT    NOT NULL, -- 'refund' or 'cltv'
    gateway_key BLOB    NOT NULL, -- S
    client_key  BLOB    NOT NULL, -- C
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

CREATE TABLE channel (
    contract     INTEGER PRIMARY KEY REFERENCES contract (id),
    paid         INTEGER NOT NULL, -- sat
    signature    BLOB    NOT NULL, -- the client's, over paid
    spent        INTEGER NOT NULL, -- msat
    stale        INTEGER NOT NULL, -- 1 from a restore until the client has shown its newest payment
    state        TEXT    NOT NULL, -- 'pending', 'late', 'open', 'closing' or 'ended'
    height       INTEGER,          -- of the contract's block
    cause        TEXT,             -- of the close: 'client', 'exhausted', 'expiring' or 'spent'
    settlement   BLOB,             -- the transaction, complete
    fee          INTEGER,          -- sat
    share        INTEGER,          -- sat, the gateway's output
    mined_txid   BLOB,             -- of the transaction that spent the contract
    mined_height INTEGER,
    mined_by     TEXT              -- 'settlement' or 'refund'
) STRICT;
