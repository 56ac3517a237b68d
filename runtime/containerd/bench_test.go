package containerd_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/containerd/containerdtest"
	"github.com/stead-env/stead/runtime/enginetest"
)

// BenchmarkRun compares the engine with containerd's own tool on the same image, in
// turns, and reports medians in milliseconds and their ratio.
func BenchmarkRun(b *testing.B) {
	d := containerdtest.Start(b)
	spec := session(b, enginetest.Root(b), '6', "/bin/true")
	run(b, spec)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(b, err)
	defer null.Close()
	engine := newEngine()
	var ours, tool []time.Duration
	for b.Loop() {
		for i := range 30 {
			start := time.Now()
			must(b, engine.Sweep(b.Context(), spec.Scratch))
			if res, err := engine.Run(b.Context(), spec, runtime.Stdio{In: null, Out: null, Err: null}); err != nil || res.ExitCode != 0 {
				b.Fatal(res, err)
			}
			ours = append(ours, time.Since(start))
			start = time.Now()
			cmd := d.Tool(b.Context(), "run", "--rm", "localhost/stead/acme:3-666666666666", fmt.Sprintf("bench-%d-%d", len(tool), i), "/bin/true")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
			must(b, cmd.Run())
			tool = append(tool, time.Since(start))
		}
	}
	slices.Sort(ours)
	slices.Sort(tool)
	median := func(d []time.Duration) float64 { return float64(d[len(d)/2].Microseconds()) / 1000 }
	b.ReportMetric(median(ours), "ms/run")
	b.ReportMetric(median(tool), "ms/ctr")
	b.ReportMetric(median(ours)/median(tool), "ratio")
}
