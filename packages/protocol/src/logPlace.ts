const NEWLINE = 0x0a;

/**
 * What stands in a log after the place that `mark` names: the end of what a reader has had. Undefined when that is not
 * there: the place lies before the part of the log that is kept, or in another log.
 */
export const newsAfter = (log: Buffer, mark: Buffer): Buffer | undefined => {
  const at = log.lastIndexOf(mark);
  if (at >= 0) return log.subarray(at + mark.byteLength);
  // A new log in the place of the old one begins in the middle of what the reader has had.
  for (
    let line = mark.indexOf(NEWLINE) + 1;
    line > 0 && line < mark.byteLength;
    line = mark.indexOf(NEWLINE, line) + 1
  ) {
    const rest = mark.subarray(line);
    if (log.subarray(0, rest.byteLength).equals(rest)) return log.subarray(rest.byteLength);
  }
  return undefined;
};
