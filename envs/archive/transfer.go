package archive

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/stead-env/stead/envs/store"
)

// The bounds of one transfer.
const (
	maxRedirects = 5
	maxBackoff   = 30 * time.Second
	maxWait      = 2 * time.Minute // a server that asks for more is given up
	headway      = 1 << 20         // bytes after which attempts are counted anew
)

// defaultClient has time limits for getting through to a server; a body may take
// as long as it brings bytes.
func defaultClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 15 * time.Second,
			IdleConnTimeout:     60 * time.Second,
			MaxIdleConnsPerHost: 8,
			ForceAttemptHTTP2:   true,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errRedirects
			}
			return nil
		},
	}
}

var (
	errRedirects = errors.New("it redirects too often")
	errStalled   = errors.New("no byte came")
	errOther     = errors.New("its bytes are others")
)

// StatusError is an answer of a server that isn't the file.
type StatusError struct {
	Code  int
	after time.Duration // what Retry-After asks for
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the server answered %d %s", e.Code, http.StatusText(e.Code))
}

// SizeError says that a server has a file of another size.
type SizeError struct{ Want, Got int64 }

func (e *SizeError) Error() string {
	if e.Got > e.Want {
		return fmt.Sprintf("it has more than the %d bytes that the file has", e.Want)
	}
	return fmt.Sprintf("it has %d bytes instead of %d", e.Got, e.Want)
}

// sinkError is a failure of this machine, not of the network.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// brief is a failure that another attempt may get past.
type brief struct{ err error }

func (e *brief) Error() string { return e.err.Error() }
func (e *brief) Unwrap() error { return e.err }

// sink takes the bytes of a transfer.
type sink interface {
	io.Writer
	Size() int64
	Reset() error
}

// transfer brings one file from one address.
type transfer struct {
	*fetcher
	name, url string
	size      int64 // -1 where it isn't known
	limit     int64 // bytes that the body may have
	sink      sink
	resume    bool         // a digest will tell whether pieces fit together
	commit    func() error // nil: whatever came will do

	validator string // of the version that the bytes in the sink are from, for If-Range
	pieces    int    // answers that the bytes in the sink came in
}

// run makes attempts until the file is there, or no further one makes sense.
func (t *transfer) run(ctx context.Context) error {
	if err := t.reset(); err != nil { // what another address gave
		return err
	}
	if strings.HasPrefix(t.url, "file:") {
		return t.finish(t.copyFile())
	}
	failures, best := 0, int64(0)
	server := t.opts.Pacer.server(t.url)
	for {
		// Every transfer under way may fail as often as it is allowed to.
		if server == nil && failures == 0 && t.hosts.count(t.url) >= t.opts.Attempts {
			return errors.New("its server does not answer")
		}
		out, err := t.paced(ctx, server)
		var b *brief
		if err == nil || ctx.Err() != nil || errors.As(err, new(*PaceError)) || !errors.As(err, &b) {
			return err
		}
		if t.sink.Size() >= best+headway {
			failures, best = 0, t.sink.Size()
		}
		if out.count {
			failures++
		}
		if failures >= t.attempts(server, err) {
			return fmt.Errorf("%w (%d attempts)", b.err, failures)
		}
		if !out.alone {
			continue // begin waits
		}
		if err := t.pause(ctx, max(failures, 1), err); err != nil {
			return err
		}
	}
}

// paced makes one attempt, when the server's pace allows it.
func (t *transfer) paced(ctx context.Context, server *pace) (outcome, error) {
	if server == nil {
		return outcome{alone: true, count: true}, t.finish(t.attempt(ctx))
	}
	v, err := server.begin(ctx)
	if err != nil {
		return outcome{}, err
	}
	err = t.finish(t.attempt(ctx))
	out := server.end(ctx, v, err)
	if out.note != "" {
		t.opts.Progress.Note("fetching", out.note)
	}
	if out.err != nil {
		err = out.err
	}
	return out, err
}

// attempts is how often a transfer may fail. A paced server that refuses, or cuts the
// line, says nothing about the file.
func (t *transfer) attempts(server *pace, err error) int {
	var status *StatusError
	if server == nil || errors.As(err, &status) && !isRefusal(status.Code) {
		return t.opts.Attempts
	}
	return max(t.opts.Attempts, maxRefusals)
}

// finish checks what came. Wrong bytes that came in pieces get another attempt as
// a whole: the file may have been replaced in between.
func (t *transfer) finish(err error) error {
	if err != nil || t.commit == nil {
		return err
	}
	err = t.commit()
	var wrong *store.MismatchError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &wrong):
		return &sinkError{err}
	}
	err = fmt.Errorf("%w: digest %s instead of %s", errOther, wrong.Got, wrong.Want)
	if t.pieces > 1 {
		return t.startOver(err.Error())
	}
	return err
}

// startOver drops what came, so that the next attempt asks for the whole file.
func (t *transfer) startOver(why string) error {
	if err := t.reset(); err != nil {
		return err
	}
	return &brief{errors.New(why)}
}

func (t *transfer) reset() error {
	n := t.sink.Size()
	t.validator, t.pieces = "", 0
	if n == 0 {
		return nil
	}
	t.advance(t.name, -n)
	if err := t.sink.Reset(); err != nil {
		return &sinkError{err}
	}
	return nil
}

// pause waits before the next attempt: as long as the server asks for, else longer
// each time, by a random amount so that machines don't come back all at once.
func (t *transfer) pause(ctx context.Context, failures int, cause error) error {
	wait := min(t.opts.Backoff<<min(failures-1, 16), maxBackoff)
	wait = wait/2 + rand.N(wait/2+1)
	var status *StatusError
	if errors.As(cause, &status) && status.after > 0 {
		if status.after > maxWait {
			return fmt.Errorf("%w and asks to wait for %s", cause, status.after)
		}
		wait = status.after
	}
	t.opts.Progress.Note("fetching", fmt.Sprintf("trying %s again: %s: %v", t.name, redact(t.url), cause))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// attempt asks for the file once, or for the rest of it.
func (t *transfer) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(t.opts.Stall, func() { cancel(errStalled) })
	defer watch.Stop()
	resp, err := t.ask(ctx)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := t.accept(resp); err != nil {
		return err
	}
	return t.receive(ctx, resp.Body, watch)
}

func (t *transfer) ask(ctx context.Context) (*http.Response, error) {
	if !t.resume {
		if err := t.reset(); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return nil, errors.New("the address is no URL")
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return nil, errors.New("an address begins with http, https or file")
	}
	req.Header.Set("Accept-Encoding", "identity") // the digest is of the bytes as they are
	req.Header.Set("User-Agent", "stead")
	if n := t.sink.Size(); n > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", n))
		if t.validator != "" {
			req.Header.Set("If-Range", t.validator)
		}
	}
	resp, err := t.opts.Client.Do(req)
	if errors.Is(err, errRedirects) || errors.Is(context.Cause(ctx), context.Canceled) {
		return nil, plain(ctx, err)
	}
	t.hosts.note(t.url, err == nil)
	if err != nil {
		return nil, connectError(plain(ctx, err), t.opts.Stall)
	}
	return resp, nil
}

// plain drops the address from an error of net/http: it may be one of a redirect,
// with a token in it.
func plain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		return cause
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// connectError tells what may pass from what will not.
func connectError(err error, stall time.Duration) error {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errStalled):
		return &brief{fmt.Errorf("%w for %s", err, stall)}
	case errors.As(err, &dns) && dns.IsNotFound, errors.As(err, &cert):
		return err
	}
	return &brief{err}
}

// accept looks at the head of an answer and makes the sink ready for its body.
func (t *transfer) accept(resp *http.Response) error {
	have := t.sink.Size()
	switch resp.StatusCode {
	case http.StatusOK: // from the beginning, even where the rest was asked for
		if err := t.reset(); err != nil {
			return err
		}
		have = 0
		t.validator = validator(resp.Header)
	case http.StatusPartialContent:
		if start, ok := rangeStart(resp.Header.Get("Content-Range")); have == 0 || !ok || start != have {
			return t.startOver("it answered with another part of the file")
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return t.startOver("it cannot go on where the transfer was cut")
	default:
		return statusError(resp)
	}
	t.pieces++
	if t.size >= 0 && resp.ContentLength >= 0 && have+resp.ContentLength != t.size {
		return &SizeError{Want: t.size, Got: have + resp.ContentLength}
	}
	return nil
}

func statusError(resp *http.Response) error {
	err := &StatusError{Code: resp.StatusCode, after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	switch {
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout:
		return &brief{err}
	}
	return err
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3).
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return time.Duration(max(n, 0)) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// validator is what names this very version of a file (RFC 9110, 13.1.5: a weak
// tag doesn't).
func validator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return h.Get("Last-Modified")
}

// rangeStart reads the first number of "bytes 10-19/20".
func rangeStart(s string) (int64, bool) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	first, _, ok2 := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return n, ok && ok2 && err == nil
}

// receive copies a body into the sink; watch ends the transfer when nothing comes.
func (t *transfer) receive(ctx context.Context, body io.Reader, watch *time.Timer) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			watch.Reset(t.opts.Stall)
			if t.sink.Size()+int64(n) > t.limit {
				if t.size < 0 {
					return fmt.Errorf("it is longer than %d bytes", t.limit)
				}
				return &SizeError{Want: t.limit, Got: t.sink.Size() + int64(n)}
			}
			if _, err := t.sink.Write(buf[:n]); err != nil {
				return &sinkError{err}
			}
			t.advance(t.name, int64(n))
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			if t.size >= 0 && t.sink.Size() != t.size {
				return &SizeError{Want: t.size, Got: t.sink.Size()}
			}
			return nil
		case t.sink.Size() == t.size: // all is here: only the connection's end went wrong
			return nil
		case errors.Is(context.Cause(ctx), errStalled):
			return &brief{fmt.Errorf("%w for %s", errStalled, t.opts.Stall)}
		default:
			return &brief{fmt.Errorf("the transfer was cut after %d bytes: %w", t.sink.Size(), plain(ctx, err))}
		}
	}
}

// copyFile takes the file from this machine's own file system.
func (t *transfer) copyFile() error {
	u, err := url.Parse(t.url)
	if err != nil || u.Host != "" && u.Host != "localhost" {
		return errors.New("the address is no path of this machine")
	}
	fi, err := os.Stat(u.Path) // before it is opened: a pipe would block
	switch {
	case err != nil:
		return err
	case !fi.Mode().IsRegular():
		return errors.New("it is no regular file")
	case t.size >= 0 && fi.Size() != t.size:
		return &SizeError{Want: t.size, Got: fi.Size()}
	}
	f, err := os.Open(u.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	t.pieces = 1
	never := time.NewTimer(time.Hour)
	defer never.Stop()
	return t.receive(context.Background(), f, never)
}
