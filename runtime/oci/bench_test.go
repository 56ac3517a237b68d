package oci_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/enginetest"
	"github.com/stead-env/stead/runtime/oci"
)

// BenchmarkRun compares the engine with bare runc on an equal bundle, in turns,
// and reports medians in milliseconds and their ratio.
func BenchmarkRun(b *testing.B) {
	needRoot(b)
	root, scratch := enginetest.Root(b), b.TempDir()
	spec := runtime.Spec{Name: "bench", Root: root, Scratch: scratch, Command: []string{"/bin/true"},
		Env: []string{"PATH=/bin"}, Umask: 0o022, Hostname: "bench"}
	config, err := runtime.OCI(spec, runtime.Placement{Root: root, Cgroup: "/stead-bench"})
	if err != nil {
		b.Fatal(err)
	}
	text, _ := json.Marshal(config)
	bundle := b.TempDir()
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o600); err != nil {
		b.Fatal(err)
	}
	null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	defer null.Close()
	engine := oci.New("runc")
	var ours, bare []time.Duration
	for b.Loop() {
		for range 30 {
			start := time.Now()
			if res, err := engine.Run(context.Background(), spec, runtime.Stdio{In: null, Out: null, Err: null}); err != nil || res.ExitCode != 0 {
				b.Fatal(res, err)
			}
			ours = append(ours, time.Since(start))
			start = time.Now()
			cmd := exec.Command("runc", "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, "stead-bench")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
			bare = append(bare, time.Since(start))
		}
	}
	slices.Sort(ours)
	slices.Sort(bare)
	median := func(d []time.Duration) float64 { return float64(d[len(d)/2].Microseconds()) / 1000 }
	b.ReportMetric(median(ours), "ms/run")
	b.ReportMetric(median(bare), "ms/runc")
	b.ReportMetric(median(ours)/median(bare), "ratio")
	fmt.Fprintln(os.Stderr, "quartiles", ours[len(ours)/4], ours[3*len(ours)/4], bare[len(bare)/4], bare[3*len(bare)/4])
}
