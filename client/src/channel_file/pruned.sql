-- What makes tables of format 5 of those of format 4.
ALTER TABLE wanted ADD COLUMN pruned INTEGER;
