-- Format 1. What is not known yet is NULL.

-- One row per channel.
CREATE TABLE channel (
    outpoint         TEXT    PRIMARY KEY, -- "txid:vout" of the contract
    origin           TEXT    NOT NULL,    -- scheme, host and port of the server
    secret_key       BLOB    NOT NULL,    -- of C
    stage            TEXT    NOT NULL,    -- 'funded', 'held', 'open' or 'closing'
    network          TEXT    NOT NULL,
    kind             TEXT    NOT NULL,    -- 'refund' or 'cltv'
    gateway_key      BLOB    NOT NULL,    -- S
    expiry           INTEGER NOT NULL,    -- T, Unix seconds
    capacity         INTEGER NOT NULL,    -- sat
    payout           BLOB    NOT NULL,    -- output script of the change and the refund
    first_payment    INTEGER NOT NULL,    -- sat
    contract         BLOB,                -- the transaction
    refund_signature BLOB,                -- the gateway's half, for 'refund' contracts
    paid             INTEGER,             -- sat
    signature        BLOB,                -- over paid
    spent            INTEGER,             -- msat
    pass             BLOB,
    settlement       TEXT                 -- txid
) STRICT;

-- One row per contract that somebody was asked to pay. The columns are those of `channel`.
CREATE TABLE wanted (
    address       TEXT    PRIMARY KEY,
    origin        TEXT    NOT NULL,
    secret_key    BLOB    NOT NULL,
    network       TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    gateway_key   BLOB    NOT NULL,
    expiry        INTEGER NOT NULL,
    capacity      INTEGER NOT NULL,
    payout        BLOB    NOT NULL,
    first_payment INTEGER NOT NULL,
    height        INTEGER NOT NULL        -- of the tip when it was agreed on
) STRICT;

-- The wallet's seed, if the file has one: its entropy (BIP-0039), sealed with a passphrase.
CREATE TABLE seed (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    network TEXT    NOT NULL,
    salt    BLOB    NOT NULL,
    nonce   BLOB    NOT NULL,
    sealed  BLOB    NOT NULL
) STRICT;

-- What the wallet has learned, as changes one after the other, in JSON.
CREATE TABLE wallet_change (
    number INTEGER PRIMARY KEY,
    change TEXT    NOT NULL
) STRICT;
