/** A sealed value that cannot be opened: changed, cut, moved to another row, or sealed under a key that is not there. */
export class SecretBoxError extends Error {
  override readonly name = "SecretBoxError";
}
