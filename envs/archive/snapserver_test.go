package archive

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// snapServer is an archive of snapshots: it answers as the real one does, from the
// instants it is given.
type snapServer struct {
	runs     map[string][]run // by archive, oldest first
	byHash   map[string][]byte
	binaries map[string][]*binary // by "name/version"
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

func newSnapServer() *snapServer {
	return &snapServer{runs: map[string][]run{}, byHash: map[string][]byte{}, binaries: map[string][]*binary{}}
}

// at notes how an archive was: suites of it, all at once.
func (s *snapServer) at(archive string, at time.Time, repos ...*repo) {
	r := run{at, map[string][]byte{}}
	for _, repo := range repos {
		for name, data := range repo.files {
			r.files[name] = data
		}
		for _, d := range repo.debs {
			s.has(archive, at, d)
		}
	}
	s.runs[archive] = append(s.runs[archive], r)
}

// has notes that a file was in a pool, be it in an index or not.
func (s *snapServer) has(archive string, at time.Time, d deb) {
	sum := sha1.Sum(d.content)
	hash := hex.EncodeToString(sum[:])
	s.byHash[hash] = d.content
	key := d.Name + "/" + d.Version
	i := slices.IndexFunc(s.binaries[key], func(b *binary) bool { return b.hash == hash })
	if i < 0 {
		i = len(s.binaries[key])
		s.binaries[key] = append(s.binaries[key], &binary{arch: d.Architecture, hash: hash})
	}
	b := s.binaries[key][i]
	if slices.ContainsFunc(b.seen, func(m map[string]any) bool { return m["archive_name"] == archive }) {
		return
	}
	dir, name := d.path()[:strings.LastIndex(d.path(), "/")], d.path()[strings.LastIndex(d.path(), "/")+1:]
	b.seen = append(b.seen, map[string]any{"name": name, "archive_name": archive, "path": "/" + dir,
		"size": len(d.content), "first_seen": at.UTC().Format(stamp)})
}

func (s *snapServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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

func (s *snapServer) binfiles(w http.ResponseWriter, r *http.Request, name, version string) {
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

func (s *snapServer) timestamps(w http.ResponseWriter, archive string) {
	result := map[string][]string{}
	for name, runs := range s.runs {
		for _, r := range runs {
			if archive == "" || archive == name {
				result[name] = append(result[name], r.at.UTC().Format(stamp))
			}
		}
	}
	writeJSON(w, map[string]any{"_api": "0.3", "_comment": "foo", "result": result})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// tree serves a file of an archive as it was last looked at.
func (s *snapServer) tree(w http.ResponseWriter, r *http.Request, archive, date, name string) {
	at, err := time.Parse(stamp, date)
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

// serveSnapshots serves it on the loopback.
func serveSnapshots(t *testing.T, s *snapServer) *server {
	t.Helper()
	return serveFunc(t, s.ServeHTTP)
}
