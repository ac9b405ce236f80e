/** PostgreSQL: connections, schema, and every statement of the hub. The only package that knows SQL. */
export * from "./database.ts";
export * from "./databaseErrors.ts";
export * from "./locks.ts";
export * from "./migrate.ts";
export * from "./migrations.ts";
export * from "./queries/deliveries.ts";
export * from "./queries/dispatches.ts";
export * from "./queries/dispatchTargets.ts";
export * from "./queries/idempotency.ts";
export * from "./queries/lifecycle.ts";
export * from "./tables.ts";
export * from "./tx.ts";
