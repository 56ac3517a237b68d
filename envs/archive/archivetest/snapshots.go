// Package archivetest has servers for tests that answer as those of archives do.
package archivetest

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // what snapshot archives name files by
	"encoding/hex"
	"encoding/json"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Stamp is how a snapshot archive writes an instant.
const Stamp = "20060102T150405Z"

// Snapshots is a snapshot archive: it answers as the one of Debian does, from the
// instants and files that it is given. They are given in order of time.
type Snapshots struct {
	runs     map[string][]run
	byHash   map[string][]byte
	binaries map[string][]*binary // by "name/version"

	mu    sync.Mutex
	asked []string
}

// run is an archive as it was at an instant.
type run struct {
	at    time.Time
	files map[string][]byte
}

type binary struct {
	arch, hash string
	seen       []map[string]any
}

// Package is a binary package's file in a pool.
type Package struct {
	Name, Version, Architecture string
	Path                        string // below the archive
	Content                     []byte
}

// NewSnapshots is an empty one.
func NewSnapshots() *Snapshots {
	return &Snapshots{runs: map[string][]run{}, byHash: map[string][]byte{}, binaries: map[string][]*binary{}}
}

// At notes how an archive was: all files, by their paths.
func (s *Snapshots) At(archive string, at time.Time, files map[string][]byte) {
	s.runs[archive] = append(s.runs[archive], run{at, files})
}

// Has notes that a file was in the pool of an archive, be it in an index or not.
func (s *Snapshots) Has(archive string, at time.Time, p Package) {
	sum := sha1.Sum(p.Content) //nolint:gosec // see the import
	hash := hex.EncodeToString(sum[:])
	s.byHash[hash] = p.Content
	key := p.Name + "/" + p.Version
	i := slices.IndexFunc(s.binaries[key], func(b *binary) bool { return b.hash == hash })
	if i < 0 {
		i = len(s.binaries[key])
		s.binaries[key] = append(s.binaries[key], &binary{arch: p.Architecture, hash: hash})
	}
	b := s.binaries[key][i]
	if slices.ContainsFunc(b.seen, func(m map[string]any) bool { return m["archive_name"] == archive }) {
		return
	}
	b.seen = append(b.seen, map[string]any{"name": path.Base(p.Path), "archive_name": archive, "path": "/" + path.Dir(p.Path),
		"size": len(p.Content), "first_seen": at.UTC().Format(Stamp)})
}

// Count is how many requests had a part of that name in their path.
func (s *Snapshots) Count(part string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if strings.Contains(a, part) {
			n++
		}
	}
	return n
}

// Spoil replaces the bytes of all files, which keep their names and sizes.
func (s *Snapshots) Spoil() {
	for hash, content := range s.byHash {
		s.byHash[hash] = append(bytes.Clone(content[1:]), 'x')
	}
}

func (s *Snapshots) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.Path)
	s.mu.Unlock()
	part := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case len(part) == 5 && part[0] == "mr" && part[1] == "binary" && part[4] == "binfiles":
		s.binfiles(w, r, part[2], part[3])
	case len(part) == 3 && part[0] == "mr" && part[1] == "timestamp":
		s.timestamps(w, r.URL.Query().Get("archive"))
	case len(part) == 2 && part[0] == "file" && s.byHash[part[1]] != nil:
		w.Header().Set("ETag", `"`+part[1]+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.byHash[part[1]]))
	case len(part) > 3 && part[0] == "archive":
		s.tree(w, r, part[1], part[2], strings.Join(part[3:], "/"))
	default:
		http.NotFound(w, r)
	}
}

func (s *Snapshots) binfiles(w http.ResponseWriter, r *http.Request, name, version string) {
	found := s.binaries[name+"/"+version]
	if len(found) == 0 {
		http.Error(w, "No such source or binary package", http.StatusNotFound)
		return
	}
	result, info := []map[string]string{}, map[string]any{}
	for _, b := range found {
		result = append(result, map[string]string{"architecture": b.arch, "hash": b.hash})
		info[b.hash] = b.seen
	}
	answer := map[string]any{"_comment": "foo", "binary": name, "binary_version": version, "result": result}
	if r.URL.Query().Get("fileinfo") == "1" {
		answer["fileinfo"] = info
	}
	writeJSON(w, answer)
}

func (s *Snapshots) timestamps(w http.ResponseWriter, archive string) {
	result := map[string][]string{}
	for name, runs := range s.runs {
		for _, r := range runs {
			if archive == "" || archive == name {
				result[name] = append(result[name], r.at.UTC().Format(Stamp))
			}
		}
	}
	writeJSON(w, map[string]any{"_api": "0.3", "_comment": "foo", "result": result})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the client is gone then
}

// tree serves a file of an archive as it was when it was last looked at.
func (s *Snapshots) tree(w http.ResponseWriter, r *http.Request, archive, date, name string) {
	at, err := time.Parse(Stamp, date)
	if err != nil {
		http.Error(w, "Invalid date string - nothing to be found here.", http.StatusNotFound)
		return
	}
	var files map[string][]byte
	for _, run := range s.runs[archive] {
		if !run.at.After(at) {
			files = run.files
		}
	}
	data, ok := files[name]
	if !ok {
		http.Error(w, "No such file or directory.", http.StatusNotFound)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}
