// Command oneline stands before the compiler (`go build -toolexec`) and puts every declaration on one line. The table that says
// which instruction belongs to which line of source is a tenth of a program; with one line a function it is next to nothing.
// Stack traces still name the functions.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	tool, args := os.Args[1], os.Args[2:]
	isCompiler := strings.TrimSuffix(filepath.Base(tool), ".exe") == "compile"
	if len(args) == 1 && strings.HasPrefix(args[0], "-V") {
		output, err := exec.Command(tool, args...).Output()
		exitIf(err)
		if isCompiler { // what is compiled so is kept apart from what is compiled without
			output = []byte(marked(strings.TrimSpace(string(output))))
		}
		_, _ = os.Stdout.Write(output)
		return
	}
	if isCompiler {
		directory, err := os.MkdirTemp("", "oneline-")
		exitIf(err)
		defer os.RemoveAll(directory)
		for i, arg := range args {
			if strings.HasSuffix(arg, ".go") && !strings.HasPrefix(arg, "-") {
				args[i] = rewritten(arg, filepath.Join(directory, fmt.Sprintf("%d-%s", i, filepath.Base(arg))))
			}
		}
	}
	command := exec.Command(tool, args...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := command.Run()
	if exit, ok := err.(*exec.ExitError); ok {
		os.Exit(exit.ExitCode())
	}
	exitIf(err)
}

func exitIf(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "oneline:", err)
		os.Exit(2)
	}
}

// marked is the compiler's version with this program's own in it.
func marked(version string) string {
	path, err := os.Executable()
	exitIf(err)
	own, err := os.ReadFile(path)
	exitIf(err)
	sum := sha256.Sum256(own)
	return fmt.Sprintf("%s +oneline-%x\n", version, sum[:8])
}

// rewritten is the path of the file on fewer lines.
func rewritten(from, to string) string {
	source, err := os.ReadFile(from)
	exitIf(err)
	exitIf(os.WriteFile(to, oneLine(source), 0o600))
	return to
}

// oneLine puts all between two directives of the compiler on one line. What stands in braces has none.
func oneLine(source []byte) []byte {
	files := token.NewFileSet()
	file := files.AddFile("", files.Base(), len(source))
	var scan scanner.Scanner
	scan.Init(file, source, nil, scanner.ScanComments)
	var out bytes.Buffer
	depth := 0
	for {
		_, kind, text := scan.Scan()
		switch {
		case kind == token.EOF:
			return out.Bytes()
		case kind == token.COMMENT:
			if isDirective(text) {
				fmt.Fprintf(&out, "\n%s\n", text)
			}
			continue
		case kind == token.SEMICOLON:
			out.WriteByte(';')
			if depth == 0 {
				out.WriteByte('\n')
			}
			continue
		case kind == token.LBRACE, kind == token.LPAREN:
			depth++
		case kind == token.RBRACE, kind == token.RPAREN:
			depth--
		}
		if text == "" {
			text = kind.String()
		}
		out.WriteString(text)
		out.WriteByte(' ')
	}
}

func isDirective(comment string) bool {
	return strings.HasPrefix(comment, "//go:") || strings.HasPrefix(comment, "//export ")
}
