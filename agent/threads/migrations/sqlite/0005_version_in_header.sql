-- The versions that a table had are a number in the file's header from here on.
DROP TABLE IF EXISTS _sqlx_migrations;
