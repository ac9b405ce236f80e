const PREFIX = 0x02;
const DETACH = 0x64;

/**
 * Ctrl-B D takes leave of a terminal, as it does where tmux holds the agent: `scion attach` has no key of its own for it.
 * Ctrl-B twice types one Ctrl-B; before any other key it is passed on.
 */
export class DetachKeys {
  #prefixed = false;

  /** What goes to the program, and whether the viewer leaves; the two keys may come in two pieces. */
  feed(data: Buffer): { readonly typed: Buffer; readonly leaves: boolean } {
    const typed: number[] = [];
    for (const byte of data) {
      if (this.#prefixed) {
        this.#prefixed = false;
        if (byte === DETACH) return { typed: Buffer.from(typed), leaves: true };
        typed.push(PREFIX);
        if (byte !== PREFIX) typed.push(byte);
      } else if (byte === PREFIX) this.#prefixed = true;
      else typed.push(byte);
    }
    return { typed: Buffer.from(typed), leaves: false };
  }
}
