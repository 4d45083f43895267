/** A call's arguments as an object, for dialects that have no text for them. */

/** What is no JSON object (the model was cut off, or made a mistake) is handed on as it is, under `text`. */
export function argumentsOf(text: string): Record<string, unknown> {
  return objectOf(text === "" ? "{}" : text) ?? { text };
}

/** The object that a text is as JSON, or null. */
export function objectOf(text: string): Record<string, unknown> | null {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)
      ? (parsed as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}
