-- A sale that is settled leaves its grant and no request. `keyset` says which mint's proofs were paid for it.
ALTER TABLE grants ADD COLUMN keyset INTEGER REFERENCES wallet_keysets (id);

-- Tokens as a vault seals them. `token` holds only what an older version has written, until that is sealed.
ALTER TABLE parts ADD COLUMN sealed BLOB;
ALTER TABLE wallet_ops ADD COLUMN sealed BLOB;

-- What is tidied up is found by its age.
DROP INDEX grants_by_wall;
CREATE INDEX grants_by_age ON grants (granted_ms);
CREATE INDEX requests_by_age ON requests (created_ms);
CREATE INDEX parts_expired ON parts (request) WHERE state = 'expired';
CREATE INDEX parts_waiting ON parts (request) WHERE state = 'claimed' AND NOT acked;
CREATE INDEX wallet_ops_ended ON wallet_ops (created_ms) WHERE state IN ('done', 'failed');
CREATE INDEX card_taps_unused ON card_taps (ends_ms) WHERE state = 'issued';
CREATE INDEX card_taps_ended ON card_taps (reserved_ms) WHERE state IN ('paid', 'failed');
CREATE INDEX account_macs_of_account ON account_macs (account);

-- A store that was in use before has rows of the older shape, see `older.rs`.
INSERT INTO meta (key, value) SELECT 'older rows', x'' WHERE EXISTS (SELECT 1 FROM counters);
