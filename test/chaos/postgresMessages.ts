/** Cuts the bytes of PostgreSQL's protocol into messages. */

type Chunks = (chunk: Buffer) => void;

const TYPE_BYTES = 1;
const LENGTH_BYTES = 4;

/** Calls `take` with each message whole. `begins`: the first one has no type, as a client's start-up message. */
const cut = (begins: boolean, take: (message: Buffer) => void): Chunks => {
  let rest: Buffer = Buffer.alloc(0);
  let typeBytes = begins ? 0 : TYPE_BYTES;
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= typeBytes + LENGTH_BYTES) {
      const length = rest.readInt32BE(typeBytes) + typeBytes;
      if (rest.length < length) return;
      take(rest.subarray(0, length));
      rest = rest.subarray(length);
      typeBytes = TYPE_BYTES;
    }
  };
};

/** What the server says, message by message, with its type's letter. */
export const serverMessages = (take: (message: Buffer, type: string) => void): Chunks =>
  cut(false, (message) => take(message, String.fromCharCode(message[0] ?? 0)));

/**
 * What a client says, message by message, with the text of the statement that it is about: also where the text was sent
 * long before, and now only its name is. Empty for everything else.
 */
export const clientMessages = (take: (message: Buffer, statement: string) => void): Chunks => {
  const prepared = new Map<string, string>();
  let first = true;
  return cut(true, (message) => {
    const body = first ? "" : message.toString("latin1", TYPE_BYTES + LENGTH_BYTES);
    const type = first ? "" : String.fromCharCode(message[0] ?? 0);
    first = false;
    const [one = "", two = ""] = body.split("\0", 2);
    // Parse: name and text. Bind: portal and name. Query: text.
    if (type === "P") prepared.set(one, two);
    take(message, type === "Q" ? one : type === "B" ? (prepared.get(two) ?? "") : type === "P" ? two : "");
  });
};
