-- What an amount is counted in stands beside it. (A proof's is that of its keyset.) The rows that are there are not
-- written again: what they do not say is the default.
ALTER TABLE parts ADD COLUMN unit TEXT NOT NULL DEFAULT 'sat';
ALTER TABLE grants ADD COLUMN unit TEXT NOT NULL DEFAULT 'sat';
ALTER TABLE wallet_ops ADD COLUMN unit TEXT NOT NULL DEFAULT 'sat';
ALTER TABLE sessions ADD COLUMN value_unit TEXT NOT NULL DEFAULT 'msat';
-- Of both limits.
ALTER TABLE cards ADD COLUMN unit TEXT NOT NULL DEFAULT 'sat';
-- Of amount, fee limit and fee.
ALTER TABLE card_taps ADD COLUMN unit TEXT NOT NULL DEFAULT 'msat';
