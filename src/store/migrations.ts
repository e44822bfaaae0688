/** The database's history: each entry runs once, in the order of the names. Never change one that was released. */
import type { Kysely } from "kysely";
import type { Migration } from "kysely/migration";

export const migrations: Record<string, Migration> = {
  "0001-keys": {
    async up(database: Kysely<unknown>) {
      await database.schema
        .createTable("keys")
        .addColumn("id", "text", (column) => column.primaryKey())
        .addColumn("name", "text", (column) => column.notNull())
        .addColumn("hash", "text", (column) => column.notNull().unique())
        .addColumn("created_at", "text", (column) => column.notNull())
        .execute();
    },
  },
};
