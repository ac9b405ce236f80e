import { freePort, isFreePort, type Random } from "@rootstock/service";
import { CliError } from "../exitCodes.ts";

const isPort = (port: number): boolean => port > 0 && port < 65_536;

/** `preferred` if it is free, else another one. */
export const choosePort = async (preferred: number, random: Random): Promise<number> => {
  if (isPort(preferred) && (await isFreePort(preferred))) return preferred;
  try {
    return await freePort(random);
  } catch (cause) {
    throw new CliError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
};

/**
 * Checks before anything else is started that the port people will use is free.
 * @throws CliError saying how to choose another
 */
export const requireFreePort = async (port: number): Promise<void> => {
  if (port === 0 || (await isFreePort(port))) return;
  throw new CliError(
    `port ${port} is taken, or not allowed for this user. Choose another one with --port or ROOTSTOCK_PORT (0: any free one).`,
  );
};
