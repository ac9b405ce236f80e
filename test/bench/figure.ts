import type { Report } from "./report.ts";
export const figureOf = (_: Report): string => "";
