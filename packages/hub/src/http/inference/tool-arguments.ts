/**
 * A tool call's arguments as an object, for dialects that give them so. What is no JSON object (the model was cut off,
 * or made a mistake) is handed on as it is, under `text`.
 */
export function argumentsOf(text: string): Record<string, unknown> {
  if (text === "") return {};
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed))
      return parsed as Record<string, unknown>;
  } catch {
    // below
  }
  return { text };
}
