import { type Db, isAllowListed } from "@rootstock/store";
import type { ProvenIdentity } from "./identity.ts";

/** Whether the allow list has the identity's address, or that of the account which it opens. */
export const isListed = async (
  tx: Db,
  { email }: Pick<ProvenIdentity, "email">,
  address: string | undefined,
): Promise<boolean> =>
  (await isAllowListed(tx, email)) ||
  (address !== undefined && address !== email && (await isAllowListed(tx, address)));
