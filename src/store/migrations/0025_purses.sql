-- Whose ecash it is: `house`, the takings, or `balances`, what is held for accounts. Each has a seed of its own. In the keysets' table
-- the names of keysets of other purses than the house's begin with the purse.
ALTER TABLE wallet_keysets ADD COLUMN purse TEXT NOT NULL DEFAULT 'house';
ALTER TABLE wallet_ops ADD COLUMN purse TEXT NOT NULL DEFAULT 'house';
-- The account whose balance what arrives is added to.
ALTER TABLE wallet_ops ADD COLUMN credits TEXT;
