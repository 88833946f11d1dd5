-- One row per contract that somebody was asked to pay, until 30 days after its expiry where it is of kind
-- 'cltv': of kind 'refund' its key may be needed at any time. The columns are those of `channel`.
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
    height        INTEGER NOT NULL,       -- where payments are looked for: none is below
    is_found      INTEGER NOT NULL,       -- whether it was paid; what is paid besides is refunded
    pruned        INTEGER                 -- height of the first block that nobody could look at
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
