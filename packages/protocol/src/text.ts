import { z } from "zod";

/**
 * A line of text for people: no control characters, which break pages and terminals, and zero bytes PostgreSQL, as half
 * of a surrogate pair does.
 */
export const printable = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
    .regex(/^[^\u0000-\u001f\u007f]+$/, "has control characters")
    .refine((text) => text.isWellFormed(), "has half a character");
