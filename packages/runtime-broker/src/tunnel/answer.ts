/** The answer of an operation: JSON, text, or nothing. */
export interface OperationAnswer {
  readonly status: number;
  readonly json?: unknown;
  readonly text?: string;
}
