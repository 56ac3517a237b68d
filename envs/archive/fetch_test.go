package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stead-env/stead/envs/store"
)

// body is a file large enough to be cut.
var body = bytes.Repeat([]byte("0123456789abcdef"), 20_000)

func file(urls ...string) File {
	return File{Name: "pkg 1.0", Digest: sha(body), Size: int64(len(body)), URLs: urls}
}

func content(t *testing.T, st *store.Store) []byte {
	t.Helper()
	r, err := st.OpenBlob(sha(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// leftovers are the files that a store has, but for its locks.
func leftovers(t *testing.T, st *store.Store) (out []string) {
	t.Helper()
	err := filepath.WalkDir(st.Dir(), func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(p, ".lock") {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// cut answers with the first half of what is asked for and drops the connection.
func cut(w http.ResponseWriter, r *http.Request, from int) {
	w.Header().Set("ETag", `"v1"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
		w.WriteHeader(http.StatusPartialContent)
	}
	w.Write(body[from : from+(len(body)-from)/2])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func whole(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"v1"`)
	http.ServeContent(w, r, "x", time.Time{}, bytes.NewReader(body))
}

// getsThrough are servers that misbehave and then don't.
var getsThrough = []struct {
	name   string
	answer func(n int, w http.ResponseWriter, r *http.Request) // n counts from 1
	asked  int
	note   string
}{
	{"at once", func(n int, w http.ResponseWriter, r *http.Request) { whole(w, r) }, 1, ""},
	{"500, then fine", func(n int, w http.ResponseWriter, r *http.Request) {
		if n < 3 {
			http.Error(w, "oops", http.StatusInternalServerError)
			return
		}
		whole(w, r)
	}, 3, "the server answered 500"},
	{"429 with Retry-After", func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		whole(w, r)
	}, 2, "the server answered 429"},
	{"slowly", func(n int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		for i := 0; i < len(body); i += len(body) / 8 {
			w.Write(body[i:min(i+len(body)/8, len(body))])
			w.(http.Flusher).Flush()
			time.Sleep(40 * time.Millisecond)
		}
	}, 1, ""},
	{"cut twice, goes on", func(n int, w http.ResponseWriter, r *http.Request) {
		switch from := rangeOf(r); {
		case n == 1 && from == 0:
			cut(w, r, 0)
		case n == 2 && from > 0 && r.Header.Get("If-Range") == `"v1"`:
			cut(w, r, from)
		case n == 3 && from > len(body)/2:
			whole(w, r)
		default:
			http.Error(w, "not asked for the rest", http.StatusBadRequest)
		}
	}, 3, "was cut after"},
	{"cut, Range ignored", func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			cut(w, r, 0)
		}
		r.Header.Del("Range")
		whole(w, r)
	}, 2, "was cut after"},
	{"cut, another part comes", func(n int, w http.ResponseWriter, r *http.Request) {
		switch n {
		case 1:
			cut(w, r, 0)
		case 2:
			r.Header.Set("Range", "bytes=5-")
			r.Header.Del("If-Range")
		}
		whole(w, r)
	}, 3, "another part"},
	{"cut, replaced in between without saying so", func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.Write(bytes.ToUpper(body[:len(body)/2]))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		whole(w, r)
	}, 3, "its bytes are others"},
	{"stalls in the body", func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.Write(body[:1000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		whole(w, r)
	}, 2, "no byte came for"},
	{"stalls before the head", func(n int, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			<-r.Context().Done()
			return
		}
		whole(w, r)
	}, 2, "no byte came for"},
}

// The file comes.
func TestFetchGetsThrough(t *testing.T) {
	for _, tt := range getsThrough {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) { tt.answer(int(asked.Add(1)), w, r) })
			st := newStore(t)
			var n notes
			opts := quick(&n)
			if strings.HasPrefix(tt.name, "stalls") {
				opts.Stall = 300 * time.Millisecond
			}
			if err := Fetch(t.Context(), st, []File{file(srv.URL)}, opts); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content(t, st), body) {
				t.Error("other bytes came")
			}
			if int(asked.Load()) != tt.asked {
				t.Errorf("it took %d requests instead of %d", asked.Load(), tt.asked)
			}
			if !strings.Contains(n.String(), tt.note) || tt.note == "" && n.String() != "" {
				t.Errorf("noted %q instead of %q", n.String(), tt.note)
			}
			if n.last.Done != int64(len(body)) || n.last.Total != int64(len(body)) {
				t.Errorf("progress ended with %+v", n.last)
			}
			if len(leftovers(t, st)) != 1 {
				t.Errorf("the store has %v", leftovers(t, st))
			}
		})
	}
}

func rangeOf(r *http.Request) int {
	s, _ := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	n, _ := strconv.Atoi(strings.TrimSuffix(s, "-"))
	return n
}

// Servers that never give the file: one error that says so, nothing left behind,
// and another mirror helps.
func TestFetchNamesWhatIsWrong(t *testing.T) {
	reply := func(data []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.Write(data) }
	}
	chunked := func(data []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			w.Write(data)
		}
	}
	other := bytes.Clone(body)
	other[len(other)-1]++
	tests := []struct {
		name   string
		answer http.HandlerFunc
		why    string
	}{
		{"404", http.NotFound, "the server answered 404 Not Found"},
		{"403", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }, "403 Forbidden"},
		{"500 for ever", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }, "500 Internal Server Error (3 attempts)"},
		{"busy for an hour", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(503)
		}, "asks to wait for 1h0m0s"},
		{"shorter", reply(body[:100]), "it has 100 bytes instead of 320000"},
		{"shorter without a length", chunked(body[:100]), "it has 100 bytes instead of 320000"},
		{"longer", reply(append(body[:len(body):len(body)], 'x')), "it has more than the 320000 bytes"},
		{"longer without a length", chunked(append(body[:len(body):len(body)], 'x')), "it has more than the 320000 bytes"},
		{"other bytes", reply(other), "its bytes are others: digest " + sha(other).String()},
		{"redirects for ever", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) }, "it redirects too often"},
		{"cut for ever", func(w http.ResponseWriter, r *http.Request) { cut(w, r, rangeOf(r)) }, "was cut after"},
	}
	good := serveFunc(t, whole)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := serveFunc(t, tt.answer)
			st := newStore(t)
			var n notes
			err := Fetch(t.Context(), st, []File{file(srv.URL + "/pkg.deb")}, quick(&n))
			var failed FetchErrors
			if !errors.As(err, &failed) || len(failed) != 1 || failed.Hint() == "" {
				t.Fatalf("got %v", err)
			}
			if want := "fetching pkg 1.0: " + srv.URL + "/pkg.deb: "; !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("got %q, which lacks %q", err, tt.why)
			}
			if left := leftovers(t, st); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
			if err := Fetch(t.Context(), st, []File{file(srv.URL, good.URL)}, quick(&n)); err != nil {
				t.Errorf("with a mirror: %v", err)
			}
			if !bytes.Equal(content(t, st), body) {
				t.Error("other bytes came")
			}
		})
	}
}

func TestFetchMany(t *testing.T) {
	srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil || n%10 == 0 {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, "%04d", n)
	})
	var files []File
	for i := range 200 {
		data := fmt.Appendf(nil, "%04d", i)
		files = append(files, File{Name: string(data), Digest: sha(data), Size: 4, URLs: []string{srv.URL + "/" + strconv.Itoa(i)}})
	}
	st := newStore(t)
	var n notes
	err := Fetch(t.Context(), st, append(files, files...), quick(&n))
	var failed FetchErrors
	if !errors.As(err, &failed) || len(failed) != 20 || failed[1].Name != "0010" {
		t.Fatalf("got %v", err)
	}
	if !strings.HasSuffix(err.Error(), "\nand 12 more files could not be fetched") {
		t.Errorf("got %q", err)
	}
	if n := srv.count("/"); n != 200 {
		t.Errorf("%d requests for 200 files", n)
	}
	if len(leftovers(t, st)) != 180 {
		t.Errorf("the store has %d files", len(leftovers(t, st)))
	}
	if err := Fetch(t.Context(), st, files[1:9], FetchOptions{}); err != nil || srv.count("/") != 200 {
		t.Errorf("what the store has was fetched again: %v", err)
	}
}

// A server that doesn't answer costs its time-outs once.
func TestFetchFromDeadServer(t *testing.T) {
	srv := serveFunc(t, whole)
	dead := srv.URL
	srv.Close()
	var files []File
	for i := range 100 {
		files = append(files, File{Name: fmt.Sprintf("%03d", i), Digest: sha([]byte{byte(i)}), Size: 1, URLs: []string{dead}})
	}
	var n notes
	opts := quick(&n)
	opts.Parallel = 2
	err := Fetch(t.Context(), newStore(t), files, opts)
	if !strings.Contains(err.Error(), "connection refused (3 attempts)") || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("got %v", err)
	}
	if got := len(n.text); got > 12 {
		t.Errorf("it was tried again %d times", got)
	}
}

func TestFetchFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/a b.deb", body, 0o600); err != nil {
		t.Fatal(err)
	}
	st := newStore(t)
	err := Fetch(t.Context(), st, []File{file("file://"+dir+"/none", "file://"+dir, "ftp://mirror.example/x", "file://"+dir+"/a%20b.deb")}, FetchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, st), body) {
		t.Error("other bytes came")
	}
}

func TestFetchIsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body[:10])
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	})
	st := newStore(t)
	if err := Fetch(ctx, st, []File{file(srv.URL)}, FetchOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := leftovers(t, st); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

// A store that can't be written ends the run instead of blaming the servers.
func TestFetchFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	defer full.Close()
	srv := serveFunc(t, whole)
	tr := &transfer{fetcher: newFetcher(FetchOptions{}, new(health)), name: "x", url: srv.URL, size: int64(len(body)),
		limit: int64(len(body)), resume: true, sink: fullDisk{full}}
	if err := tr.run(t.Context()); !errors.As(err, new(*sinkError)) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
	if n := srv.count("/"); n != 1 {
		t.Errorf("%d requests", n)
	}
}

type fullDisk struct{ *os.File }

func (fullDisk) Size() int64  { return 0 }
func (fullDisk) Reset() error { return nil }

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "x": 0,
		now.Add(time.Minute).Format(http.TimeFormat):  time.Minute,
		now.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("%q: %s instead of %s", s, got, want)
		}
	}
}
