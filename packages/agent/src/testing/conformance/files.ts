import { type ConformanceCase, check, rejection, same } from "./case.ts";

export const fileCases: readonly ConformanceCase[] = [
  {
    name: "files: what was written is read, replaced whole, with its mode",
    async run({ host: { files, platform }, directory }) {
      const path = files.join(directory, "a.json");
      same(await files.read(path), null, "an absent file");
      same(await files.facts(path), null, "facts of an absent file");
      same(await files.write(path, "Grüße", { mode: 0o600 }), true, "written");
      same(new TextDecoder().decode((await files.read(path)) ?? undefined), "Grüße", "text");
      const facts = await files.facts(path);
      same(facts?.sizeBytes, 7, "size");
      check(Math.abs((facts?.modifiedMs ?? 0) - Date.now()) < 60_000, "modified just now");
      if (platform !== "win32") {
        same(facts?.mode, 0o600, "mode");
        await files.setMode(path, 0o640);
        same((await files.facts(path))?.mode, 0o640, "changed mode");
      }
      same(await files.write(path, "", { mode: 0o600 }), true, "written again");
      same((await files.read(path))?.byteLength, 0, "empty");
      same(await files.facts(files.join(path, "below")), null, "facts below a file");
    },
  },
  {
    name: "files: an exclusive write leaves what is there, and only one of many wins",
    async run({ host: { files }, directory }) {
      const path = files.join(directory, "key");
      const wins = await Promise.all(
        Array.from({ length: 20 }, (_, i) => files.write(path, `${i}`, { mode: 0o600, exclusive: true })),
      );
      same(wins.filter(Boolean).length, 1, "winners");
      const text = new TextDecoder().decode((await files.read(path)) ?? undefined);
      same(text, String(wins.indexOf(true)), "content");
    },
  },
  {
    name: "files: a reader sees the old or the new, never a part",
    async run({ host: { files }, directory }) {
      const path = files.join(directory, "whole");
      const texts = ["a".repeat(300_000), "b".repeat(500_000)];
      await files.write(path, texts[0]!, { mode: 0o600 });
      let writing = true;
      const writer = (async () => {
        for (let i = 0; i < 30; i++) await files.write(path, texts[i % 2]!, { mode: 0o600 });
        writing = false;
      })();
      while (writing) {
        const size = (await files.read(path))?.byteLength;
        check(size === 300_000 || size === 500_000, `${size} bytes were seen`);
      }
      await writer;
    },
  },
  {
    name: "files: a directory that is not there is an error with a code, and is made with its parents",
    async run({ host: { files, platform }, directory }) {
      const below = files.join(directory, "x", "y");
      const error = await rejection(files.write(files.join(below, "f"), "", { mode: 0o600 }), "the write");
      same(error.code, "ENOENT", "code");
      await files.makeDirectory(below, 0o700);
      await files.makeDirectory(below, 0o700);
      if (platform !== "win32") same((await files.facts(below))?.mode, 0o700, "mode");
      same(await files.write(files.join(below, "f"), "", { mode: 0o600 }), true, "written");
    },
  },
  {
    name: "files: the hash of a file is SHA-256 in small letters",
    async run({ host: { files }, directory }) {
      const path = files.join(directory, "abc");
      await files.write(path, "abc", { mode: 0o600 });
      same(
        await files.sha256(path),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "hash",
      );
      same((await rejection(files.sha256(`${path}.not`), "an absent file")).code, "ENOENT", "code");
    },
  },
  {
    name: "files: a file grows by what is appended, is renamed, listed and removed, with all below a folder",
    async run({ host: { files }, directory }) {
      const [folder, part] = [files.join(directory, "models"), files.join(directory, "models", "a.part")];
      same((await files.list(folder)).length, 0, "an absent folder");
      await files.makeDirectory(folder, 0o700);
      for (const text of ["Grü", "ße"]) {
        const writer = await files.append(part, { mode: 0o600 });
        await writer.write(new TextEncoder().encode(text));
        await writer.close();
      }
      await files.write(files.join(folder, "b"), "other", { mode: 0o600 });
      await files.rename(part, files.join(folder, "b"));
      same((await files.list(folder)).join(), "b", "names");
      const text = new TextDecoder().decode((await files.read(files.join(folder, "b"))) ?? undefined);
      same(text, "Grüße", "the renamed file");
      check((await files.freeBytes(folder)) > 0, "free bytes");
      await files.remove(folder);
      await files.remove(folder);
      same(await files.facts(folder), null, "the removed folder");
    },
  },
];
