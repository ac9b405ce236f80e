import { z } from "zod";

/** Values that several variables of the configuration have. */

/** An HTTP address, without slashes at its end. */
export const httpUrl = z
  .string()
  .refine((u) => URL.canParse(u) && /^https?:$/.test(new URL(u).protocol), "want http://… or https://…")
  .transform((u) => u.replace(/\/+$/, ""));

/** Off or on. */
export const switchOf = (fallback: "0" | "1") =>
  z
    .enum(["0", "1", "true", "false"])
    .default(fallback)
    .transform((v) => v === "1" || v === "true");

/** The entries of a comma-separated list. */
export const listOf = (text: string): readonly string[] =>
  text
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "");

/** What is wrong with a variable, in words that do not repeat its value. */
export const problemsOf = (error: z.ZodError): string[] =>
  error.issues.map((i) => `${i.path.join(".")}: ${textOf(i.message)}`);

const textOf = (message: string): string => (message.startsWith("Invalid input") ? "is required" : message);
