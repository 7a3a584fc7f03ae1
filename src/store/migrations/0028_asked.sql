-- What an account has asked a payment for by, a name of its own for good: a column, so that it is found and is unique by its index.
ALTER TABLE balance_moves ADD COLUMN asked TEXT;
UPDATE balance_moves SET asked = substr(detail, instr(detail, '"asked":"') + 9, 64)
    WHERE kind = 'send' AND instr(detail, '"asked":"') > 0;
CREATE UNIQUE INDEX balance_moves_asked ON balance_moves (tenant, account, asked) WHERE asked IS NOT NULL;
