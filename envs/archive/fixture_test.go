package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
)

// folder is a host whose root is a folder, and remembers what was read.
type folder struct {
	snapshot.Host
	dir   string
	reads []string
}

func (f *folder) Read(ctx context.Context, paths []string, fn func(string, io.Reader, error) error) error {
	f.reads = append(f.reads, paths...)
	return f.Host.Read(ctx, paths, fn)
}

func (f *folder) write(t *testing.T, name string, content []byte) {
	t.Helper()
	p := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (f *folder) link(t *testing.T, name, target string) {
	t.Helper()
	p := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, p); err != nil {
		t.Fatal(err)
	}
}

func newHost(t *testing.T) *folder {
	t.Helper()
	dir := t.TempDir()
	h, err := host.Folder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &folder{Host: h, dir: dir}
}

func newStore(t testing.TB) *store.Store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	st, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// written is the date of the test archives' Release files.
var written = time.Date(2021, 8, 14, 9, 57, 38, 0, time.UTC)

// newKey makes a signing key that was made a year before written and is good for
// life, or for ever when that is 0.
func newKey(t *testing.T, life time.Duration) *openpgp.Entity {
	t.Helper()
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(life / time.Second),
		Time: func() time.Time { return written.AddDate(-1, 0, 0) }}
	e, err := openpgp.NewEntity("Archive", "", "archive@mirror.example", config)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func publicKey(t *testing.T, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// deb is a package of a test archive.
type deb struct {
	Want
	content []byte
	fields  string // further ones of its stanza
}

// says is a package with further fields in its stanza.
func (d deb) says(fields ...string) deb {
	d.fields = strings.Join(fields, "\n") + "\n"
	return d
}

func (d deb) path() string {
	return fmt.Sprintf("pool/main/%s/%s/%s_%s_%s.deb", d.Name[:1], d.Name, d.Name, strings.ReplaceAll(d.Version, ":", "%3a"), d.Architecture)
}

func (d deb) sum() string { s := sha256.Sum256(d.content); return hex.EncodeToString(s[:]) }

func (d deb) stanza() string {
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\n%sDescription: a\n longer text\n Size: 3\nFilename: %s\nSize: %d\nSHA256: %s\n\n",
		d.Name, d.Version, d.Architecture, d.fields, d.path(), len(d.content), d.sum())
}

func newDeb(name, version, arch string) deb {
	return deb{Want: Want{name, version, arch}, content: []byte("!<arch>\n" + strings.Repeat(name+" "+version+" "+arch+"\n", 20))}
}

// repo is a test archive: its files by path.
type repo struct {
	suite   string
	endings []string // of the indexes
	key     *openpgp.Entity
	debs    []deb
	extra   string // further fields of the Release
	files   map[string][]byte
}

func newRepo(t *testing.T, key *openpgp.Entity, debs ...deb) *repo {
	t.Helper()
	r := &repo{suite: "bullseye", endings: []string{".xz", ".gz"}, key: key, debs: debs}
	return r.build(t)
}

// build makes the archive's files anew.
func (r *repo) build(t *testing.T) *repo {
	t.Helper()
	r.files = make(map[string][]byte)
	index := map[string]string{"main/binary-amd64/Packages": "", "main/binary-all/Packages": ""}
	for _, d := range r.debs {
		r.files[d.path()] = d.content
		index["main/binary-"+d.Architecture+"/Packages"] += d.stanza()
	}
	release := "Origin: Debian\nLabel: Debian\nSuite: stable\nCodename: " + r.suite + "\nDate: " +
		written.Format(time.RFC1123) + "\n" + r.extra + "SHA256:\n"
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range index {
			if !yield(n) {
				return
			}
		}
	}) {
		for _, e := range append([]string{""}, r.endings...) {
			data := compress(t, e, []byte(index[name]))
			sum := sha256.Sum256(data)
			release += fmt.Sprintf(" %x %8d %s%s\n", sum, len(data), name, e)
			if e != "" {
				r.files["dists/"+r.suite+"/"+name+e] = data
				r.files["dists/"+r.suite+"/"+filepath.Dir(name)+"/by-hash/SHA256/"+hex.EncodeToString(sum[:])] = data
			}
		}
	}
	r.files["dists/"+r.suite+"/Release"] = []byte(release)
	r.files["dists/"+r.suite+"/InRelease"] = clearSign(t, r.key, release)
	return r
}

func compress(t *testing.T, ending string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ending {
	case "":
		return data
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".lz4":
		w = lz4.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func clearSign(t *testing.T, key *openpgp.Entity, text string) []byte {
	t.Helper()
	if key == nil {
		return []byte(text)
	}
	var b bytes.Buffer
	config := &packet.Config{Time: func() time.Time { return written.Add(time.Minute) }}
	w, err := clearsign.Encode(&b, key.PrivateKey, config)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// server serves files and counts what was asked for.
type server struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

func (s *server) count(part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if strings.Contains(a, part) {
			n++
		}
	}
	return n
}

func serve(t *testing.T, files map[string][]byte) *server {
	t.Helper()
	return serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[strings.TrimPrefix(r.URL.Path, "/debian/")]
		if !ok {
			data, ok = files[strings.TrimPrefix(r.URL.EscapedPath(), "/debian/")]
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "x", written, bytes.NewReader(data))
	})
}

func serveFunc(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.URL.Path)
		s.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func sha(data []byte) digest.Digest { return digest.FromBytes(data) }

// notes collects what is said to people.
type notes struct {
	mu   sync.Mutex
	text []string
	last snapshot.Event
}

func (n *notes) progress(e snapshot.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Note != "" {
		n.text = append(n.text, e.Note)
	} else {
		n.last = e
	}
}

func (n *notes) String() string { n.mu.Lock(); defer n.mu.Unlock(); return strings.Join(n.text, "\n") }

func armored(t *testing.T, e *openpgp.Entity) string {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err == nil {
		_, err = w.Write(publicKey(t, e))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}
