package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stead-env/stead/snapshot/host/hosttest"
)

// BenchmarkSSH reads a server of 507 packages whose package files are in the store, 50 ms
// away each way: for the first time into a new fleet, and again.
func BenchmarkSSH(b *testing.B) {
	out, err := exec.Command("../../testdata/hosts/cached", "bench-host").Output()
	if err != nil {
		b.Fatal(err)
	}
	host := filepath.Join(strings.TrimSpace(string(out)), "host")
	dir := b.TempDir()
	stead := func(fleet string, args ...string) []byte {
		cmd := exec.Command("../../bin/stead", args...)
		cmd.Env = append(os.Environ(), "STEAD_FLEET="+filepath.Join(dir, fleet), "STEAD_STORE="+filepath.Join(dir, "store"))
		out, err := cmd.Output()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			b.Fatalf("%q: %v\n%s", args, err, exit.Stderr)
		}
		return out
	}
	stead("near", "snapshot", host, "server", "--yes", "--drop", "/opt/big/**")
	// What the near snapshot learned of contents isn't known of the far host.
	d := hosttest.StartSSHD(b, "ChrootDirectory "+host)
	wire := hosttest.StartWire(b, d.Port, 50*time.Millisecond)
	d.Through(b, wire.Port)
	for _, run := range []string{"first", "again"} {
		b.Run(run, func(b *testing.B) {
			for range b.N {
				if run == "first" {
					if err := os.RemoveAll(filepath.Join(dir, "far")); err != nil {
						b.Fatal(err)
					}
					forget(b, filepath.Join(dir, "store/cache/contents-*"))
				}
				before := wire.Bytes.Load()
				var answer struct{ Packages map[string]int }
				text := stead("far", "snapshot", "ssh://prod", "server", "--yes", "--drop", "/opt/big/**", "--json")
				if err := json.Unmarshal(text, &answer); err != nil || answer.Packages["exact"] < 400 {
					b.Fatalf("%v: %s", err, text)
				}
				b.ReportMetric(float64(wire.Bytes.Load()-before)/1e6, "MB/op")
			}
		})
	}
}

func forget(b *testing.B, pattern string) {
	b.Helper()
	files, err := filepath.Glob(pattern)
	for _, f := range files {
		err = errors.Join(err, os.Remove(f))
	}
	if err != nil {
		b.Fatal(err)
	}
}
