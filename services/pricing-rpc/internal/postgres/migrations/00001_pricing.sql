-- +goose Up
-- One row: the version of the catalogue, raised with every change.
CREATE TABLE catalogue (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint  NOT NULL
);
INSERT INTO catalogue (version) VALUES (1);
CREATE TABLE prices (
    sku          text   PRIMARY KEY,
    name         text   NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency     text   NOT NULL,
    version      bigint NOT NULL  -- the catalogue's version when it was set
);
INSERT INTO prices (sku, name, amount_minor, currency, version) VALUES
    ('mug',       'Mug with a rabbit',        1290, 'EUR', 1),
    ('tshirt',    'T-shirt, navy',            2450, 'EUR', 1),
    ('hoodie',    'Hoodie, grey',             4990, 'EUR', 1),
    ('notebook',  'Notebook, 120 pages',       990, 'EUR', 1),
    ('sticker',   'Sheet of stickers',         350, 'EUR', 1),
    ('poster',    'Poster, exchanges',        1800, 'EUR', 1),
    ('keyboard',  'Mechanical keyboard',     12900, 'EUR', 1),
    ('gift-card', 'Gift card',                5000, 'EUR', 1);
-- +goose Down
DROP TABLE prices, catalogue;
