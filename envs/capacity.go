package envs

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	goruntime "runtime"
)

// What a build takes of a machine's memory, at least: a compiler at work, and what is
// around it.
const (
	memoryPerJob   = 512 << 20
	memoryPerBuild = 1 << 30
)

// Capacity is what builds may take of this machine.
type Capacity struct {
	Jobs   int // commands that all builds run at once
	Builds int // targets that are built at once
	// Note says that memory, not processors, is what there is too little of; or "".
	Note string
}

// capacity is how many builds of so many targets go on at once, and how many commands
// they run together: as many as there are processors for this process, which Go counts
// by affinity and cgroup, unless there is memory for fewer only. A choice of the user's
// for either counts as it is.
func capacity(targets, jobs, builds int) Capacity {
	c := Capacity{Jobs: jobs, Builds: builds}
	memory := freeMemory()
	if c.Jobs <= 0 {
		processors := goruntime.GOMAXPROCS(0)
		c.Jobs = clamp(int(min(memory/memoryPerJob, math.MaxInt32)), processors)
		if c.Jobs < processors {
			c.Note = fmt.Sprintf("%d jobs at once, and not one for each of %d processors: only %s of memory are available (-j says how many)",
				c.Jobs, processors, Bytes(memory))
		}
	}
	if c.Builds <= 0 {
		c.Builds = min(c.Jobs, clamp(int(min(memory/memoryPerBuild, math.MaxInt32)), c.Jobs))
	}
	c.Builds = clamp(c.Builds, targets)
	return c
}

// clamp is n, but at least 1 and otherwise at most most.
func clamp(n, most int) int { return max(min(n, most), 1) }

// freeMemory is what processes may take without pushing others out, in bytes: of this
// machine, and of every cgroup around this process.
func freeMemory() int64 {
	free := int64(math.MaxInt64)
	if kb, ok := field("/proc/meminfo", "MemAvailable:"); ok {
		free = kb << 10
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return free
	}
	for line := range strings.Lines(string(text)) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, at, _ := strings.Cut(rest, ":")
		switch {
		case id == "0":
			free = min(free, cgroupMemory("/sys/fs/cgroup", at, "memory.max", "memory.current", "inactive_file"))
		case strings.Contains(","+controllers+",", ",memory,"):
			free = min(free, cgroupMemory("/sys/fs/cgroup/memory", at, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
		}
	}
	return free
}

// cgroupMemory is what the limits of a cgroup and of those around it leave. What files
// hold of it that nobody uses can be had back. A container may not see the path that it
// is told: then its own limit stands at the top.
func cgroupMemory(top, at, limit, used, cached string) int64 {
	free := int64(math.MaxInt64)
	for at = path.Clean("/" + at); ; at = path.Dir(at) {
		dir := filepath.Join(top, at)
		if most, ok := number(filepath.Join(dir, limit)); ok {
			taken, _ := number(filepath.Join(dir, used))
			idle, _ := field(filepath.Join(dir, "memory.stat"), cached)
			free = min(free, max(most-taken+idle, 0))
		}
		if at == "/" {
			return free
		}
	}
}

// number reads a file with one number; "max" is none.
func number(name string) (int64, bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return n, err == nil
}

// field reads the number after a word that begins a line.
func field(name, word string) (int64, bool) {
	f, err := os.Open(name)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) >= 2 && f[0] == word {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
