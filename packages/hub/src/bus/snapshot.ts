/** A PostgreSQL snapshot (`xmin:xmax:xip,…`): which transactions' work was visible at one moment. */
export interface Snapshot {
  readonly text: string;
  readonly xmin: bigint;
  readonly xmax: bigint;
  /** Transactions under way then, among those below `xmax`. */
  readonly xip: ReadonlySet<bigint>;
}

const FORM = /^(\d{1,20}):(\d{1,20}):((?:\d{1,20},)*\d{1,20})?$/;

/** Undefined when PostgreSQL would refuse the text: what a client sends back must not become a failing statement. */
export const parseSnapshot = (text: string): Snapshot | undefined => {
  const found = FORM.exec(text);
  if (!found) return undefined;
  const xmin = BigInt(found[1] ?? 0);
  const xmax = BigInt(found[2] ?? 0);
  const xips = found[3] ? found[3].split(",").map(BigInt) : [];
  if (xmin < 1n || xmax < xmin || xmax >= 1n << 63n) return undefined;
  let last = xmin - 1n;
  for (const xid of xips) {
    if (xid <= last || xid >= xmax) return undefined;
    last = xid;
  }
  return { text, xmin, xmax, xip: new Set(xips) };
};

/** Whether the committed work of transaction `tx` was visible in `snapshot`. */
export const isVisible = (tx: bigint, snapshot: Snapshot): boolean =>
  tx < snapshot.xmin || (tx < snapshot.xmax && !snapshot.xip.has(tx));

/** Whether everything visible in `earlier` was visible in `later` too. */
export const includes = (later: Snapshot, earlier: Snapshot): boolean => {
  if (later.xmax < earlier.xmax) return false;
  for (const xid of later.xip) if (isVisible(xid, earlier)) return false;
  return true;
};
