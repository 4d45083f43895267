/**
 * The script engine as the slim program uses it: the module that go.mod pins, with some of its places changed, in slim/dist/goja.
 * As it comes it lets scripts call the methods of any Go value by name, which keeps every method of every type in the file
 * (3 MB), reads JSON by encoding/json, and gives each function a table of its own with its name and length (2 MB while idle).
 * Throws where a place is not what it was: look at it anew after an upgrade.
 */
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const MODULE = "github.com/dop251/goja";
const FETCH_MS = 120_000;

interface Change {
  file: string;
  from: string;
  to: string;
}

/** No value that the host gives to the script has methods: all are plain objects and functions. */
const CHANGES: readonly Change[] = [
  {
    file: "object_goreflect.go",
    from: "return o.methodsValue.Method(idx)",
    to: "_ = idx\n\t\t\treturn reflect.Value{}",
  },
  { file: "object_goreflect.go", from: "n := t.NumMethod()", to: "n := 0" },
  { file: "object_goreflect.go", from: "method := t.Method(i)", to: "var method reflect.Method" },
  // A function has no `name` and `length` of its own, which nothing of ours reads, and its table is made with its first property.
  {
    file: "func.go",
    from: `	f.baseObject.init()

	f.lenProp.configurable = true
	f.lenProp.value = length
	f._put("length", &f.lenProp)

	f._putProp("name", stringValueFromRaw(name), false, false, true)
`,
    to: "",
  },
  {
    file: "object.go",
    from: "\t\t\to.values[name] = val\n\t\t\tnames",
    to: "\t\t\to.table()[name] = val\n\t\t\tnames",
  },
  {
    file: "object.go",
    from: "throw); ok {\n\t\to.values[name] = v\n",
    to: "throw); ok {\n\t\to.table()[name] = v\n",
  },
  {
    file: "object.go",
    from: "func (o *baseObject) _put(name unistring.String, v Value) {\n",
    to: `func (o *baseObject) table() map[unistring.String]Value {
	if o.values == nil {
		o.values = make(map[unistring.String]Value)
	}
	return o.values
}

func (o *baseObject) _put(name unistring.String, v Value) {
	o.table()
`,
  },
  { file: "builtin_json.go", from: '"encoding/json"', to: '"gfe/slim/json"' },
];

/** Makes the changed engine, unless it is there; resolves with the go.mod that uses it, relative to slim/. */
export async function prepareEngine(slim: string): Promise<string> {
  const goMod = readFileSync(join(slim, "go.mod"), "utf8");
  const copy = join(slim, "dist", "goja");
  const marker = join(copy, ".made-of");
  const madeOf = `${/goja (\S+)/.exec(goMod)?.[1]}\n${JSON.stringify(CHANGES)}`;
  if (!existsSync(marker) || readFileSync(marker, "utf8") !== madeOf) {
    const { stdout } = await promisify(execFile)("go", ["mod", "download", "-json", MODULE], {
      cwd: slim,
      timeout: FETCH_MS,
    });
    const { Dir } = JSON.parse(stdout) as { Dir: string };
    rmSync(copy, { recursive: true, force: true });
    cpSync(Dir, copy, {
      recursive: true,
      filter: (path) => !path.endsWith("_test.go") && !path.endsWith("/testdata"),
      mode: 0,
    });
    await promisify(execFile)("chmod", ["-R", "u+w", copy]); // the module cache is read-only
    for (const { file, from, to } of CHANGES) change(join(copy, file), from, to);
    writeFileSync(marker, madeOf);
  }
  mkdirSync(join(slim, "dist"), { recursive: true });
  // Paths of replacements go from the module's root, wherever the file lies.
  writeFileSync(join(slim, "dist", "slim.mod"), `${goMod}\nreplace ${MODULE} => ./dist/goja\n`);
  writeFileSync(join(slim, "dist", "slim.sum"), readFileSync(join(slim, "go.sum")));
  return join("dist", "slim.mod");
}

function change(path: string, from: string, to: string): void {
  const text = readFileSync(path, "utf8");
  if (text.split(from).length !== 2)
    throw new Error(`${path} does not have "${from}" once: the engine has changed`);
  writeFileSync(path, text.replace(from, to));
}
