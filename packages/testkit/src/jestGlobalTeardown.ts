/** Stops what the run's setup started. */
export default async function teardown(): Promise<void> {
  await globalThis.rootstockTestServer?.stop();
}
