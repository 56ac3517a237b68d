package archive

import (
	"context"
	"crypto/sha1" //nolint:gosec // what snapshot archives name files by; nothing is trusted for it
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
)

// The bounds of what a snapshot archive answers. Its list of instants has four a day
// since 2005, its list of a package's files 20 architectures.
const (
	maxAnswer   = 4 << 20 // bytes
	maxOld      = 4096    // files of one version, places of one file
	maxInstants = 200_000
	stamp       = "20060102T150405Z"
	day         = 24 * time.Hour
)

// CheckSnapshots says why an address can't be one of a snapshot archive. Locks may
// name it, so there are no credentials in it.
func CheckSnapshots(address string) error {
	clean, err := cleanURI(address)
	u, parsed := url.Parse(address)
	switch {
	case err != nil:
		return fmt.Errorf("snapshot archive %s: %w", redact(address), err)
	case parsed != nil || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("snapshot archive %s: an address begins with http or https", redact(address))
	case clean != strings.TrimRight(address, "/"):
		return fmt.Errorf("snapshot archive %s: an address has no user, query or fragment", redact(address))
	}
	return nil
}

// SnapshotTrees are addresses where snapshot archives have an archive as it was when
// its signed file was new. They are further mirrors of it.
func SnapshotTrees(a lock.Archive, snapshots []string) (trees []string) {
	name := path.Base(a.URI)
	if !isArchiveName(name) || !strings.HasPrefix(name, "debian") || !strings.HasPrefix(a.Name, "debian") || a.Dated.IsZero() {
		return nil
	}
	// A mirror run some hours later took it; until the next day nothing leaves a pool.
	at := a.Dated.Add(day).UTC().Format(stamp)
	for _, base := range snapshots {
		if !strings.HasPrefix(a.URI, base) {
			trees = append(trees, base+"/archive/"+name+"/"+at)
		}
	}
	return trees
}

// IsSnapshot reports whether a path of an archive is one of a snapshot archive.
func IsSnapshot(a lock.Archive, file string) bool {
	if sum, ok := strings.CutPrefix(file, filePath("")); ok && isSHA1(sum) {
		return true
	}
	return isTree(a.URI)
}

// isTree reports whether an address is one of an archive as it was at an instant.
func isTree(uri string) bool {
	_, err := time.Parse(stamp, path.Base(uri))
	return err == nil && path.Base(path.Dir(path.Dir(uri))) == "archive"
}

// oldFile is a package file that a snapshot archive has.
type oldFile struct {
	sha1   string // lower-case hex
	size   int64
	places []place
}

// place is where a file first was, and when.
type place struct {
	archive string // "debian", "debian-security"
	first   time.Time
}

// parseBinfiles reads the files of one version of a binary package that are for an
// architecture.
func parseBinfiles(data []byte, arch string) ([]oldFile, error) {
	var answer struct {
		Result []struct {
			Hash         string `json:"hash"`
			Architecture string `json:"architecture"`
		} `json:"result"`
		FileInfo map[string][]struct {
			Archive string `json:"archive_name"`
			Size    int64  `json:"size"`
			First   string `json:"first_seen"`
			Run     string `json:"run"` // what it was called earlier
		} `json:"fileinfo"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fmt.Errorf("reading its answer: %w", err)
	}
	if answer.Result == nil || len(answer.Result) > maxOld {
		return nil, errors.New("its answer lists no files")
	}
	var files []oldFile
	for _, r := range answer.Result {
		f := oldFile{sha1: strings.ToLower(r.Hash)}
		if r.Architecture != arch || !isSHA1(f.sha1) || len(files) == maxHits ||
			slices.ContainsFunc(files, func(o oldFile) bool { return o.sha1 == f.sha1 }) {
			continue
		}
		for _, i := range answer.FileInfo[r.Hash] {
			first, err := time.Parse(stamp, i.First+i.Run)
			if err != nil || !isArchiveName(i.Archive) || i.Size <= 0 || i.Size > maxPackage || len(f.places) == maxHits {
				continue
			}
			f.size = i.Size
			f.places = append(f.places, place{i.Archive, first})
		}
		if f.size > 0 {
			files = append(files, f)
		}
	}
	return files, nil
}

// parseInstants reads when an archive was looked at, oldest first.
func parseInstants(data []byte, archive string) ([]time.Time, error) {
	var answer struct {
		Result map[string][]string `json:"result"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fmt.Errorf("reading its answer: %w", err)
	}
	if len(answer.Result[archive]) > maxInstants {
		return nil, errors.New("its answer is too long")
	}
	var all []time.Time
	for _, s := range answer.Result[archive] {
		if at, err := time.Parse(stamp, s); err == nil {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all, nil
}

func isSHA1(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha1.Size
}

func isArchiveName(s string) bool {
	return s != "" && len(s) < 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// ask gets a small file of a snapshot archive.
func (o old) ask(ctx context.Context, address string, keep bool, valid func([]byte) error) error {
	get := func() ([]byte, error) { return current{o.apt}.overNetwork(ctx, address) }
	return o.recall(address, keep, get, func(body []byte) error {
		if err := valid(body); err != nil {
			return fmt.Errorf("fetching %s: %w", address, err)
		}
		return nil
	})
}

// recall gets an answer, and keeps it: a search that was cut short goes on where it
// stopped. What isn't there may come, so that is asked again after a day, as is what
// keep isn't set for; valid keeps an error page from being kept.
func (o old) recall(address string, keep bool, get func() ([]byte, error), valid func([]byte) error) error {
	key := "snapshots-" + digest.FromString(address).Encoded()
	if known, err := o.Store.Recall(key); err == nil {
		head, body, _ := strings.Cut(known, "\n")
		code, at, _ := strings.Cut(head, " ")
		when, _ := strconv.ParseInt(at, 10, 64)
		fresh := time.Since(time.Unix(when, 0)) < day
		switch {
		case code == "200" && (keep || fresh) && valid([]byte(body)) == nil:
			return nil
		case code == "404" && fresh:
			return errNever
		}
	}
	body, err := get()
	switch {
	case isGone(err):
		if err := o.remember(key, "404", nil); err != nil {
			return err
		}
		return errNever
	case err != nil:
		return err
	}
	if err := valid(body); err != nil {
		return err
	}
	return o.remember(key, "200", body)
}

var errNever = errors.New("it has no such file")

func isGone(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusGone)
}

func (o old) remember(key, code string, body []byte) error {
	if err := o.Store.Remember(key, fmt.Sprintf("%s %d\n%s", code, time.Now().Unix(), body)); err != nil {
		return &sinkError{err}
	}
	return nil
}

// binfiles are the files of a package that an archive of snapshots has, none where it
// never had any.
func (o old) binfiles(ctx context.Context, base string, w Want) (files []oldFile, err error) {
	address := base + "/mr/binary/" + url.PathEscape(w.Name) + "/" + url.PathEscape(w.Version) + "/binfiles?fileinfo=1"
	err = o.ask(ctx, address, true, func(body []byte) (err error) {
		files, err = parseBinfiles(body, w.Architecture)
		return err
	})
	if errors.Is(err, errNever) {
		return nil, nil
	}
	return files, err
}

// instants are when an archive was looked at; none where that can't be known, and
// the server has to look for the nearest one itself.
func (o old) instants(ctx context.Context, base, archive string) (all []time.Time, err error) {
	err = o.ask(ctx, base+"/mr/timestamp/?archive="+archive, false, func(body []byte) (err error) {
		all, err = parseInstants(body, archive)
		return err
	})
	if errors.Is(err, errNever) {
		return nil, nil
	}
	return all, err
}

// bySHA1 brings a file into the store that only its SHA-1 is known of, and returns
// its SHA-256.
func (o old) bySHA1(ctx context.Context, base, name string, f oldFile) (string, error) {
	key := "snapshots-file-" + f.sha1
	if sum, err := o.Store.Recall(key); err == nil && isSHA256(sum) {
		if o.Store.HasBlob(digest.NewDigestFromEncoded(digest.SHA256, sum)) {
			return sum, nil
		}
	}
	blob, err := o.Store.NewBlob()
	if err != nil {
		return "", &sinkError{err}
	}
	defer blob.Close() //nolint:errcheck // drops what was not committed
	var got digest.Digest
	t := &transfer{fetcher: newFetcher(o.quiet(), &o.hosts), name: name, url: fileURL(base, f.sha1),
		size: f.size, limit: f.size, resume: true}
	w := &sha1Sink{blob, sha1.New()} //nolint:gosec // see the import
	t.sink = w
	t.commit = func() (err error) {
		if err := w.check(f.sha1); err != nil {
			return err
		}
		got, err = blob.Commit(ctx, "")
		return err
	}
	if err := t.run(ctx); err != nil {
		return "", fmt.Errorf("fetching %s: %w", t.url, err)
	}
	if err := o.Store.Remember(key, got.Encoded()); err != nil {
		return "", &sinkError{err}
	}
	return got.Encoded(), nil
}

func filePath(sha1 string) string { return "file/" + sha1 }

func fileURL(base, sha1 string) string { return base + "/" + filePath(sha1) }

// sameSHA1 reports whether a blob of the store has that SHA-1.
func (o old) sameSHA1(d digest.Digest, sum string) (bool, error) {
	r, err := o.Store.OpenBlob(d)
	if err != nil {
		return false, err
	}
	defer r.Close()
	h := sha1.New() //nolint:gosec // see the import
	_, err = io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)) == sum, err
}

// sha1Sink is a blob whose SHA-1 is known.
type sha1Sink struct {
	*store.BlobWriter
	hash hash.Hash
}

func (s *sha1Sink) Write(p []byte) (int, error) {
	n, err := s.BlobWriter.Write(p)
	s.hash.Write(p[:n])
	return n, err
}

// Reset drops the bytes written so far.
func (s *sha1Sink) Reset() error {
	s.hash.Reset()
	return s.BlobWriter.Reset()
}

func (s *sha1Sink) check(want string) error {
	if got := hex.EncodeToString(s.hash.Sum(nil)); got != want {
		return &store.MismatchError{Want: digest.Digest("sha1:" + want), Got: digest.Digest("sha1:" + got), Size: s.Size()}
	}
	return nil
}
