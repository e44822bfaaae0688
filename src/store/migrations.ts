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

  "0002-limits": {
    async up(database: Kysely<unknown>) {
      // One column at a time: SQLite adds no more at once.
      const keys = database.schema.alterTable("keys");
      for (const name of ["last_used_at", "expires_at", "revoked_at", "models", "budget_period"]) {
        await keys.addColumn(name, "text").execute();
      }
      for (const name of ["requests_per_minute", "concurrent_pictures"]) {
        await keys.addColumn(name, "integer").execute();
      }
      await keys.addColumn("budget_pixel_steps", "double precision").execute();
      // Until now every key could do everything.
      const everything = '["images","models","usage","metrics","admin"]';
      await keys.addColumn("scopes", "text", (column) => column.notNull().defaultTo(everything)).execute();
      await keys.addColumn("priority", "text", (column) => column.notNull().defaultTo("normal")).execute();
    },
  },

  "0003-jobs-and-usage": {
    async up(database: Kysely<unknown>) {
      // Pixel-steps are whole numbers far above 2^31; as doubles both databases hold and add them exactly up to 2^53.
      await database.schema
        .createTable("jobs")
        .addColumn("id", "text", (column) => column.primaryKey())
        .addColumn("key_id", "text", (column) => column.notNull())
        .addColumn("state", "text", (column) => column.notNull())
        .addColumn("kept", "integer", (column) => column.notNull())
        .addColumn("model", "text", (column) => column.notNull())
        .addColumn("pictures", "integer", (column) => column.notNull())
        .addColumn("reserved", "double precision", (column) => column.notNull())
        .addColumn("charged", "double precision")
        .addColumn("attempts", "integer", (column) => column.notNull().defaultTo(0))
        .addColumn("created_at", "text", (column) => column.notNull())
        .addColumn("started_at", "text")
        .addColumn("finished_at", "text")
        .addColumn("idempotency_key", "text")
        .addColumn("fingerprint", "text")
        .addColumn("request", "text")
        .addColumn("result", "text")
        .addColumn("error", "text")
        .addColumn("webhook_url", "text")
        .addColumn("webhook_secret", "text")
        .addColumn("webhook_attempts", "integer", (column) => column.notNull().defaultTo(0))
        .addColumn("webhook_due_at", "text")
        .execute();
      await database.schema.createIndex("jobs_by_key").on("jobs").columns(["key_id", "state"]).execute();
      await database.schema.createIndex("jobs_by_state").on("jobs").columns(["state", "finished_at"]).execute();
      await database.schema.createIndex("jobs_by_webhook").on("jobs").column("webhook_due_at").execute();
      await database.schema
        .createTable("usage")
        .addColumn("key_id", "text", (column) => column.notNull())
        .addColumn("day", "text", (column) => column.notNull())
        .addColumn("model", "text", (column) => column.notNull())
        .addColumn("requests", "integer", (column) => column.notNull())
        .addColumn("pictures", "integer", (column) => column.notNull())
        .addColumn("pixel_steps", "double precision", (column) => column.notNull())
        .addPrimaryKeyConstraint("usage_by_day", ["key_id", "day", "model"])
        .execute();
    },
  },
};
