package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/archive/archivetest"
	"github.com/stead-env/stead/envs/lock"
)

// A host whose archive has gone on: some of its packages are in no index any more, one
// is in the index alone, and one was never in it.
func TestOldVersions(t *testing.T) {
	t.Parallel()
	s := smallHost(t)
	dropped := []string{"lib00", "lib01", "lib02", "lib03", "lib04"}
	const gone, unlisted = "lib05", "acme-agent"
	snapshots, server := s.snapshots()
	s.goOn(append(slices.Clone(dropped), gone), dropped)

	s.in(t, "without", func(s *small) {
		stdout, stderr, code := s.snapshot("without", "without-store")
		if code != 0 || !strings.Contains(stdout, "7 packages are in no archive, and lost with the fleet's blobs: acme-agent, lib00") {
			s.t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
		}
		if !strings.Contains(stderr, "hint: a snapshot archive may have old versions: snapshots = [") {
			s.t.Errorf("no hint at snapshot archives:\n%s", stderr)
		}
	})
	s.in(t, "with", func(s *small) {
		s.write("fleet/fleet.toml", fmt.Sprintf("snapshots = [%q]\n", server.URL+"/"))
		var res envs.SnapshotResult
		s.answer(s.command("fleet", "store", "snapshot", s.host, "acme", "--yes", "--json"), &res)
		f := res.Forecast
		if len(f.Nowhere) != 0 || !slices.Equal(f.Fleet, []string{unlisted}) || !slices.Equal(f.Snapshots, append(slices.Clone(dropped), gone)) || f.Hint != "" {
			s.t.Errorf("the forecast is %+v", f)
		}
		s.checkOld(server.URL, dropped, gone, unlisted)
		asked := snapshots.Count("")
		stdout, stderr, code := s.snapshot("fleet", "store")
		if code != 0 || !strings.Contains(stdout, "acme@1 is unchanged") || !strings.Contains(stdout, "6 packages are held by a snapshot archive alone: lib00") {
			s.t.Errorf("again: exit code %d\n%s%s", code, stdout, stderr)
		}
		if n := snapshots.Count("") - asked; n != 0 {
			s.t.Errorf("an unchanged host made %d requests", n)
		}
	})
	s.in(t, "pull", func(s *small) {
		s.remove("fleet/fleet.toml") // the lock says where each file is
		s.pull("other-store")
		if snapshots.Count("/pool/") < len(dropped) {
			s.t.Error("the old versions came from elsewhere")
		}
	})
	s.in(t, "dropped since", func(s *small) {
		s.mirror.set(map[string]fault{debPackage{name: "lib06"}.path(): notFound})
		defer s.mirror.set(nil)
		if _, stderr, code := result(s.command("fleet", "late-store", "pull", "acme")); code != 1 || !strings.Contains(stderr, "fetching lib06 1.0-1: ") {
			s.t.Errorf("a pull of what is nowhere: exit code %d\n%s", code, stderr)
		}
		s.write("fleet/fleet.toml", fmt.Sprintf("snapshots = [%q]\n", server.URL))
		s.pull("late-store")
	})
	s.in(t, "environment", func(s *small) { s.bySnapshotVariable(server.URL) })
}

// bySnapshotVariable names the snapshot archive in the environment.
func (s *small) bySnapshotVariable(address string) {
	cmd := s.command("by-variable", "by-variable-store", "snapshot", s.host, "acme", "--yes")
	cmd.Env = append(cmd.Env, "STEAD_SNAPSHOT_ARCHIVE="+address)
	stdout, stderr, code := result(cmd)
	if code != 0 || !strings.Contains(stdout, "6 packages are held by a snapshot archive alone") {
		s.t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	cmd = s.command("wrong", "by-variable-store", "snapshot", s.host, "acme", "--yes")
	cmd.Env = append(cmd.Env, "STEAD_SNAPSHOT_ARCHIVE=https://user:pa55@mirror.example")
	if _, stderr, code := result(cmd); code != 1 || !strings.Contains(stderr, "an address has no user") || strings.Contains(stderr, "pa55") {
		s.t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// snapshots serves what was in the archive once.
func (s *small) snapshots() (*archivetest.Snapshots, *httptest.Server) {
	s.t.Helper()
	all := archivetest.NewSnapshots()
	for _, p := range smallPackages("") {
		content, err := os.ReadFile(s.path("archive", p.path()))
		if err != nil {
			s.t.Fatal(err)
		}
		all.Has("debian", written, archivetest.Package{Name: p.name, Version: "1.0-1", Architecture: "amd64",
			Path: p.path(), Content: content})
	}
	all.At("debian", written.Add(time.Hour), s.mirror.files)
	server := httptest.NewServer(all)
	s.t.Cleanup(server.Close)
	return all, server
}

// checkOld looks at the lock that the snapshot archive helped to.
func (s *small) checkOld(server string, dropped []string, gone, unlisted string) {
	s.t.Helper()
	l, reference := s.lock("fleet"), s.lock("without")
	if l.Rootfs != reference.Rootfs {
		s.t.Errorf("the root is %s, and without snapshots it is %s", l.Rootfs.Digest, reference.Rootfs.Digest)
	}
	uri := map[string]string{"": ""}
	for _, a := range l.Archives {
		uri[a.Name] = a.URI
	}
	for _, k := range l.Packages {
		want := s.mirror.URL + "/debian"
		switch {
		case slices.Contains(dropped, k.Name):
			want = server + "/archive/debian/" + written.Add(time.Hour).Format(archivetest.Stamp)
		case k.Name == gone:
			want = server
		case k.Name == unlisted:
			want = ""
		}
		if k.Proof != lock.Exact || uri[k.Archive] != want {
			s.t.Errorf("%s is %s, of %s instead of %s", k.Name, k.Proof, uri[k.Archive], want)
		}
	}
}

// lock reads the first release of acme.
func (s *small) lock(fleet string) *lock.Lock {
	s.t.Helper()
	text, err := os.ReadFile(s.path(fleet, "acme", "1.lock"))
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := lock.Read(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// goOn lets the archive drop files, and name fewer packages.
func (s *small) goOn(files, packages []string) {
	s.t.Helper()
	m := &mirror{key: s.mirror.key, files: maps.Clone(s.mirror.files), asked: map[string]int{}}
	for _, name := range files {
		delete(m.files, debPackage{name: name}.path())
	}
	for stanza := range strings.SplitAfterSeq(s.mirror.index, "\n\n") {
		name, _, _ := strings.Cut(strings.TrimPrefix(stanza, "Package: "), "\n")
		if !slices.Contains(packages, name) {
			m.index += stanza
		}
	}
	const name = "main/binary-amd64/Packages.xz"
	index := compressXZ(s.t, m.index)
	old := m.files[suiteDir+name]
	m.files[suiteDir+name] = index
	release := string(m.files[suiteDir+"InRelease"])
	begin := strings.Index(release, "Origin:")
	release = release[begin:strings.Index(release, "-----BEGIN PGP SIGNATURE")]
	release = strings.Replace(release, fmt.Sprintf("%x %d", sha256.Sum256(old), len(old)), fmt.Sprintf("%x %d", sha256.Sum256(index), len(index)), 1)
	release = strings.Replace(release, "Origin: Small", "Origin: Debian", 1)
	m.files[suiteDir+"InRelease"] = clearSign(s.t, m.key, release)
	if bytes.Equal(old, index) {
		s.t.Fatal("nothing changed")
	}
	m.Server = httptest.NewServer(m)
	s.t.Cleanup(m.Close)
	s.mirror = m
	s.write("host/etc/apt/sources.list", "deb [signed-by=/usr/share/keyrings/small.gpg] "+m.URL+"/debian stable main\n")
}
