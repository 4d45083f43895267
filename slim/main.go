// Command slim is the small host of the agent: the agent's core in TypeScript, bundled by scripts/build-agents.ts, on a
// script engine in Go. It knows nothing of the agent; it gives the script what packages/agent/src/slim/native.ts says.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/dop251/goja"
)

// The heap may grow by this part of what lives before it is collected: memory counts more here than time. The start makes much
// that lives between much that does not: collected often, it leaves fewer holes.
const (
	collectPercent      = 50
	collectPercentStart = 20
	// The script runs on one, the network on another; each more has memory of its own.
	processorsMax = 2
)

func main() {
	debug.SetGCPercent(collectPercentStart)
	runtime.GOMAXPROCS(min(processorsMax, runtime.NumCPU()))
	vm := goja.New()
	l := newLoop(vm)
	if err := vm.Set("gfeNative", native(l)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l.post(func() {
		if err := newParts(vm).begin(); err != nil {
			l.onFault(describeError(err))
		}
	})
	go settle(l)
	l.run()
}

func platform() string {
	if isWindows() {
		return "win32"
	}
	return runtime.GOOS
}

// architecture is named as Node names it.
func architecture() string {
	if runtime.GOARCH == "amd64" {
		return "x64"
	}
	return runtime.GOARCH
}

func environment() map[string]string {
	env := map[string]string{}
	for _, line := range os.Environ() {
		if name, value, found := strings.Cut(line, "="); found && name != "" {
			env[name] = value
		}
	}
	return env
}

func native(l *loop) *goja.Object {
	vm := l.vm
	w := newWeb(l)
	started := time.Now()
	hostName, _ := os.Hostname()
	home, _ := os.UserHomeDir()
	object := vm.NewObject()
	env := vm.NewObject()
	for name, value := range environment() {
		_ = env.Set(name, value)
	}
	args := make([]any, 0, len(os.Args))
	for _, arg := range os.Args[1:] {
		args = append(args, arg)
	}
	for name, value := range map[string]any{
		"platform":      platform(),
		"hostName":      hostName,
		"homeDirectory": home,
		"env":           env,
		"args":          vm.NewArray(args...),
		"nowMs": func(goja.FunctionCall) goja.Value {
			return vm.ToValue(float64(started.UnixMicro())/1e3 + float64(time.Since(started).Microseconds())/1e3)
		},
		"after": l.after,
		"soon": func(call goja.FunctionCall) goja.Value {
			callback := l.function(call.Argument(0))
			l.soon = append(l.soon, func() { l.call(callback) })
			return goja.Undefined()
		},
		"print": func(call goja.FunctionCall) goja.Value {
			stream := os.Stdout
			if call.Argument(0).ToInteger() == 2 {
				stream = os.Stderr
			}
			_, _ = stream.WriteString(call.Argument(1).String())
			return goja.Undefined()
		},
		"exit": func(call goja.FunctionCall) goja.Value {
			for _, callback := range l.onExit {
				l.call(callback)
			}
			restoreTerminal()
			os.Exit(int(call.Argument(0).ToInteger()))
			return nil
		},
		"onExit": func(call goja.FunctionCall) goja.Value {
			l.onExit = append(l.onExit, l.function(call.Argument(0)))
			return goja.Undefined()
		},
		"onStop": func(call goja.FunctionCall) goja.Value {
			callback := l.function(call.Argument(0))
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
			go func() {
				for range signals {
					l.post(func() { l.call(callback) })
				}
			}()
			return goja.Undefined()
		},
		"http":            w.http,
		"dial":            w.dial,
		"readFile":        l.readFile,
		"writeFile":       l.writeFile,
		"makeDirectory":   l.makeDirectory,
		"setMode":         l.setMode,
		"facts":           l.facts,
		"sha256File":      l.sha256File,
		"join":            l.join,
		"append":          l.append,
		"rename":          l.rename,
		"remove":          l.remove,
		"list":            l.listDirectory,
		"freeBytes":       l.freeBytes,
		"run":             l.runProgram,
		"spawn":           l.spawn,
		"serve":           l.serve,
		"terminal":        l.terminal,
		"processId":       os.Getpid(),
		"executable":      executable(),
		"arch":            architecture(),
		"replaceProgram":  l.replaceProgram,
		"become":          l.become,
		"version":         strings.TrimPrefix(runtime.Version(), "go"),
		"encodeUtf8":      l.encodeUtf8,
		"encodeUtf8Into":  l.encodeUtf8Into,
		"utf8Decoder":     l.utf8Decoder,
		"toBase64":        l.toBase64,
		"fromBase64":      l.fromBase64,
		"parseUrl":        l.parseUrl,
		"randomBytes":     l.randomBytes,
		"sha256":          l.sha256,
		"ed25519Generate": l.ed25519Generate,
		"ed25519Signer":   l.ed25519Signer,
		"ed25519Verify":   l.ed25519Verify,
	} {
		_ = object.Set(name, value)
	}
	return object
}
