package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dop251/goja"
)

const (
	// How long a living program has to take a connection.
	probeTime = time.Second
	// Two that start at once take turns; a lock this old was left by one that was killed.
	lockStale = 5 * time.Second
	lockRetry = 20 * time.Millisecond
	// For the last words to those who still listen.
	serveEnd = 300 * time.Millisecond
)

var errTaken = errors.New("served by another program")

// local answers HTTP for programs of the same user, one request a connection. A server of the standard library's would
// weigh 0.2 MB more, for what nobody asks of this one.
type local struct {
	loop        *loop
	bodyMax     int64
	connections int
	requestTime time.Duration
	onRequest   goja.Callable

	mu   sync.Mutex
	open map[net.Conn]bool
}

// serve answers at a unix socket or named pipe:
// (endpoint, {bodyBytes, connections, requestMs}, onRequest(method, path, body, reply)) → Promise<{close(): Promise}>.
// It resolves with null where a living program answers there.
func (l *loop) serve(call goja.FunctionCall) goja.Value {
	endpoint := call.Argument(0).String()
	limits := call.Argument(1).ToObject(l.vm)
	server := &local{
		loop:        l,
		bodyMax:     limits.Get("bodyBytes").ToInteger(),
		connections: int(limits.Get("connections").ToInteger()),
		requestTime: time.Duration(limits.Get("requestMs").ToFloat() * float64(time.Millisecond)),
		onRequest:   l.function(call.Argument(2)),
		open:        map[net.Conn]bool{},
	}
	return l.promise(func() (func() any, error) {
		listener, err := listenLocal(endpoint)
		if errors.Is(err, errTaken) {
			return func() any { return goja.Null() }, nil
		}
		if err != nil {
			return nil, err
		}
		go server.accept(listener)
		return func() any {
			serving := l.vm.NewObject()
			_ = serving.Set("close", func(goja.FunctionCall) goja.Value {
				return l.promise(func() (func() any, error) {
					listener.Close()
					server.end()
					return nil, nil
				})
			})
			return serving
		}, nil
	})
}

func (s *local) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		room := len(s.open) < s.connections
		if room {
			s.open[conn] = true
		}
		s.mu.Unlock()
		if !room {
			conn.Close()
			continue
		}
		go func() {
			s.answer(conn)
			conn.Close()
			s.mu.Lock()
			delete(s.open, conn)
			s.mu.Unlock()
		}()
	}
}

// end waits a little for answers that are being written, then cuts what is left.
func (s *local) end() {
	for late := time.Now().Add(serveEnd); time.Now().Before(late); time.Sleep(lockRetry) {
		s.mu.Lock()
		left := len(s.open)
		s.mu.Unlock()
		if left == 0 {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		conn.Close()
	}
}

func (s *local) answer(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(s.requestTime))
	reader := bufio.NewReader(io.LimitReader(conn, s.bodyMax+http.DefaultMaxHeaderBytes))
	request, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	body, err := io.ReadAll(io.LimitReader(request.Body, s.bodyMax+1))
	if err != nil {
		return
	}
	if int64(len(body)) > s.bodyMax {
		whole(conn, http.StatusRequestEntityTooLarge,
			fmt.Sprintf(`{"message":"the body is larger than %d bytes"}`, s.bodyMax))
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	gone := make(chan struct{})
	go func() { // nothing more is to come but the end
		_, _ = reader.ReadByte()
		close(gone)
	}()
	s.handle(conn, request, string(body), gone)
}

func head(conn net.Conn, status int, kind, more string) {
	fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\ncontent-type: %s\r\n%sconnection: close\r\n\r\n",
		status, http.StatusText(status), kind, more)
}

func whole(conn net.Conn, status int, text string) {
	head(conn, status, "application/json", fmt.Sprintf("content-length: %d\r\n", len(text)))
	_, _ = io.WriteString(conn, text)
}

// handle lets the script answer: reply has whole(status, body), begin(status), line(text), end(), onGone(callback).
func (s *local) handle(conn net.Conn, request *http.Request, body string, gone <-chan struct{}) {
	l := s.loop
	done := make(chan struct{})
	ended := false // on the loop
	end := func() {
		if !ended {
			ended = true
			close(done)
		}
	}
	l.post(func() {
		vm := l.vm
		reply := vm.NewObject()
		// Writing waits for the one who reads: beside the loop, in order.
		write := func(work func() error) goja.Value {
			return l.promise(func() (func() any, error) { return nil, work() })
		}
		_ = reply.Set("whole", func(call goja.FunctionCall) goja.Value {
			status, text := int(call.Argument(0).ToInteger()), call.Argument(1).String()
			return write(func() error {
				whole(conn, status, text)
				l.post(end)
				return nil
			})
		})
		_ = reply.Set("begin", func(call goja.FunctionCall) goja.Value {
			status := int(call.Argument(0).ToInteger())
			return write(func() error {
				head(conn, status, "application/jsonl", "")
				return nil
			})
		})
		_ = reply.Set("line", func(call goja.FunctionCall) goja.Value {
			text := call.Argument(0).String()
			return write(func() error {
				_, err := io.Copy(conn, strings.NewReader(text+"\n"))
				return err
			})
		})
		_ = reply.Set("end", func(goja.FunctionCall) goja.Value {
			end()
			return goja.Undefined()
		})
		_ = reply.Set("onGone", func(call goja.FunctionCall) goja.Value {
			callback := l.function(call.Argument(0))
			go func() {
				select {
				case <-gone:
					l.post(func() { l.call(callback) })
				case <-done:
				}
			}()
			return goja.Undefined()
		})
		l.call(s.onRequest, vm.ToValue(request.Method), vm.ToValue(request.URL.RequestURI()), vm.ToValue(body), reply)
	})
	<-done
}

// claim runs work while no other program claims the same endpoint, and only where no living one answers.
func claim(endpoint string, work func() (net.Listener, error)) (net.Listener, error) {
	lock := endpoint + ".lock"
	for {
		err := os.Mkdir(lock, 0o700)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		if held, err := os.Stat(lock); err == nil && time.Since(held.ModTime()) > lockStale {
			_ = os.Remove(lock)
		} else {
			time.Sleep(lockRetry)
		}
	}
	defer os.Remove(lock)
	conn, err := dialLocal(newTimeout(probeTime), endpoint)
	if err == nil {
		conn.Close()
		return nil, errTaken
	}
	if code := codeOf(err); code != "ENOENT" && code != "ECONNREFUSED" {
		return nil, errTaken // stopped or swamped, and there all the same
	}
	return work()
}
