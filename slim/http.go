package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dop251/goja"
)

const (
	idleConnectionsMax = 64
	idleConnection     = 30 * time.Second
	dialTimeout        = 30 * time.Second
	// How long an answer may go on after what mattered of it.
	releaseTime  = time.Second
	readBytesMax = 32 * 1024
	// Each connection has one, also while it idles.
	idleBuffer = 8 * 1024
)

// The certificates that the environment adds to the system's: a company's own, a test's.
func tlsConfig(env func(string) string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, variable := range []string{"NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"} {
		path := env(variable)
		if path == "" {
			continue
		}
		pem, err := os.ReadFile(path)
		if err != nil {
			continue // a request that needs it will say so
		}
		if config.RootCAs == nil {
			if config.RootCAs, err = x509.SystemCertPool(); err != nil {
				config.RootCAs = x509.NewCertPool()
			}
		}
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	return config
}

type web struct {
	loop   *loop
	tls    *tls.Config
	client *http.Client

	mu    sync.Mutex
	local map[string]*http.Client // by the path of a unix socket
}

func newWeb(l *loop) *web {
	w := &web{loop: l, tls: tlsConfig(os.Getenv), local: map[string]*http.Client{}}
	w.client = w.newClient((&net.Dialer{Timeout: dialTimeout}).DialContext, http.ProxyFromEnvironment)
	return w
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func (w *web) newClient(dial dialFunc, proxy func(*http.Request) (*url.URL, error)) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               proxy,
			DialContext:         dial,
			TLSClientConfig:     w.tls,
			MaxIdleConns:        idleConnectionsMax,
			MaxIdleConnsPerHost: idleConnectionsMax,
			IdleConnTimeout:     idleConnection,
			DisableCompression:  true,
			ReadBufferSize:      idleBuffer,
		},
		// An engine may not send the agent elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (w *web) clientFor(socketPath string) *http.Client {
	if socketPath == "" {
		return w.client
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	client := w.local[socketPath]
	if client == nil {
		client = w.newClient(func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialLocal(ctx, socketPath)
		}, nil)
		w.local[socketPath] = client
	}
	return client
}

// http sends a request: {response: Promise, cancel()}.
func (w *web) http(call goja.FunctionCall) goja.Value {
	vm := w.loop.vm
	given := call.Argument(0).ToObject(vm)
	address := given.Get("url").String()
	method := given.Get("method").String()
	headers := w.loop.strings(given.Get("headers"))
	body, hasBody := optionalText(given.Get("body"))
	socketPath, _ := optionalText(given.Get("socketPath"))
	ctx, cancel := context.WithCancel(context.Background())

	exchange := vm.NewObject()
	_ = exchange.Set("cancel", func(goja.FunctionCall) goja.Value {
		cancel()
		return goja.Undefined()
	})
	_ = exchange.Set("response", w.loop.promise(func() (func() any, error) {
		var content io.Reader
		if hasBody {
			content = strings.NewReader(body)
		}
		request, err := http.NewRequestWithContext(ctx, method, address, content)
		if err != nil {
			cancel()
			return nil, err
		}
		for name, value := range headers {
			request.Header.Set(name, value)
			if strings.EqualFold(name, "host") {
				request.Host = value
			}
		}
		if request.Header.Get("User-Agent") == "" {
			request.Header["User-Agent"] = nil // none, as Node's
		}
		// A kept connection that the server closed just now: once more on a fresh one. The header itself is not sent.
		request.Header["X-Idempotency-Key"] = []string{}
		response, err := w.clientFor(socketPath).Do(request)
		if err != nil {
			cancel()
			return nil, err
		}
		return func() any { return w.response(response, cancel) }, nil
	}))
	return exchange
}

func (w *web) response(response *http.Response, cancel context.CancelFunc) goja.Value {
	vm := w.loop.vm
	object := vm.NewObject()
	_ = object.Set("status", response.StatusCode)
	_ = object.Set("header", func(call goja.FunctionCall) goja.Value {
		if values := response.Header.Values(call.Argument(0).String()); len(values) > 0 {
			return vm.ToValue(values[0])
		}
		return goja.Undefined()
	})
	buffer := make([]byte, readBytesMax)
	ended := false // read by one call at a time
	_ = object.Set("read", func(goja.FunctionCall) goja.Value {
		return w.loop.promise(func() (func() any, error) {
			if ended {
				return func() any { return goja.Null() }, nil
			}
			count, err := response.Body.Read(buffer)
			if count > 0 {
				piece := append([]byte(nil), buffer[:count]...)
				return func() any { return vm.NewArrayBuffer(piece) }, nil
			}
			if err == io.EOF {
				ended = true
				response.Body.Close()
				cancel()
				return func() any { return goja.Null() }, nil
			}
			if err != nil {
				response.Body.Close()
				cancel()
			}
			return nil, err
		})
	})
	_ = object.Set("release", func(goja.FunctionCall) goja.Value {
		go func() {
			late := time.AfterFunc(releaseTime, cancel)
			_, _ = io.Copy(io.Discard, response.Body)
			late.Stop()
			response.Body.Close()
			cancel()
		}()
		return goja.Undefined()
	})
	return object
}
