package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/evidencetest"
)

// recipe is a YAML file that README.md shows, by the name in its first line.
func recipe(t *testing.T, name string, to any) (text string) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(readme), "```yaml\n")[1:] {
		text, _, _ = strings.Cut(block, "```")
		if first, _, _ := strings.Cut(strings.TrimPrefix(text, "# "), "\n"); first != name && !strings.HasPrefix(first, name+":") {
			continue
		}
		if err := yaml.Unmarshal([]byte(text), to); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return text
	}
	t.Fatalf("README.md has no %s", name)
	return ""
}

// shell runs a script of a recipe in a folder of the container, as CI systems do.
func (c *ci) shell(dir, script string, env map[string]string) string {
	c.t.Helper()
	args := []string{"env", "-C", dir}
	for name, value := range env {
		args = append(args, name+"="+value)
	}
	out, errs, code := c.command(append(args, "bash", "-e", "-c", script)...)
	if code != 0 {
		c.t.Fatalf("%s: exit code %d\n%s%s", script, code, out, errs)
	}
	return out
}

// githubJob is a job of a workflow, as far as the recipe has it.
type githubJob struct {
	Outputs  map[string]string
	Defaults struct {
		Run struct {
			Directory string `yaml:"working-directory"`
		}
	}
	Strategy struct {
		Matrix string
	}
	Steps []struct {
		ID, Uses, Run string
		With          map[string]string
	}
}

var expression = regexp.MustCompile(`\$\{\{ *([^}]*?) *\}\}`)

// expand puts values where a workflow has expressions.
func expand(t *testing.T, text string, values map[string]string) string {
	t.Helper()
	return expression.ReplaceAllStringFunc(text, func(s string) string {
		name := expression.FindStringSubmatch(s)[1]
		value, ok := values[name]
		if !ok {
			t.Errorf("the recipe has %s, which nobody sets", s)
		}
		return value
	})
}

// sources puts the project and the fleet into the container, as checking out does, below
// a new folder.
func (c *ci) sources(dir string) {
	c.t.Helper()
	c.must(exec.Command("mkdir", "-p", filepath.Join(c.root, dir)))
	for from, to := range map[string]string{"src/app": "app", "fleet": "fleet"} {
		c.must(exec.Command("cp", "-a", filepath.Join(c.root, from), filepath.Join(c.root, dir, to)))
	}
}

// testGitHub does what the workflow of README.md says, with what a cache would bring.
func testGitHub(c *ci) {
	var flow struct {
		Env  map[string]string
		Jobs map[string]githubJob
	}
	recipe(c.t, ".github/workflows/build.yml", &flow)
	c.sources("github")
	env := map[string]string{"GITHUB_OUTPUT": "/github/output", "GITHUB_RUN_ID": "7", "GITHUB_SERVER_URL": "https://git.example",
		"GITHUB_REPOSITORY": "example/app"}
	maps.Copy(env, flow.Env)
	values := map[string]string{}
	first := flow.Jobs["matrix"]
	for _, step := range first.Steps {
		if step.Run != "" {
			c.shell("/github/"+first.Defaults.Run.Directory, expand(c.t, step.Run, values), env)
			name, value, _ := strings.Cut(strings.TrimSuffix(c.read("github/output"), "\n"), "=")
			values["steps."+step.ID+".outputs."+name] = value
		}
	}
	output := expand(c.t, first.Outputs["matrix"], values)
	var matrix struct {
		Include []map[string]any
	}
	if err := json.Unmarshal([]byte(output), &matrix); err != nil || len(matrix.Include) != 2 || strings.Contains(output, "\n") {
		c.t.Fatalf("the matrix is %q, %v", output, err)
	}
	build := flow.Jobs["build"]
	if build.Strategy.Matrix != "${{ fromJSON(needs.matrix.outputs.matrix) }}" {
		c.t.Errorf("the matrix is taken from %s", build.Strategy.Matrix)
	}
	for name, value := range matrix.Include[0] { // testGitLab builds the other one
		values["matrix."+name] = fmt.Sprint(value)
	}
	for _, step := range build.Steps {
		with := map[string]string{}
		for name, value := range step.With {
			with[name] = expand(c.t, value, values)
		}
		switch action, _, _ := strings.Cut(step.Uses, "@"); action {
		case "":
			c.shell("/github/"+build.Defaults.Run.Directory, expand(c.t, step.Run, values), env)
		case "actions/cache":
			c.restore(with["path"])
		case "actions/upload-artifact":
			c.proven(filepath.Join("github", with["path"]), "https://git.example/example/app/actions/runs/7/attempts/1#"+with["name"])
		case "actions/checkout":
		default:
			c.t.Errorf("the recipe uses %s", step.Uses)
		}
	}
	c.must(exec.Command("rm", "-r", filepath.Join(c.root, flow.Env["STEAD_STORE"])))
}

// restore is what a cache does whose key is known.
func (c *ci) restore(dir string) {
	c.t.Helper()
	to := filepath.Join(c.root, dir)
	c.must(exec.Command("mkdir", "-p", "-m", "700", filepath.Dir(to)))
	c.must(exec.Command("cp", "-a", filepath.Join(c.root, "store", "blobs"), to))
}

// proven checks that a folder has an artifact and what tells of it.
func (c *ci) proven(dir, invocation string) {
	c.t.Helper()
	var list envs.Artifacts
	if err := json.Unmarshal([]byte(c.read(filepath.Join(dir, "artifacts.json"))), &list); err != nil {
		c.t.Fatal(err)
	}
	s, p, _ := evidencetest.Dist(c.t, filepath.Join(c.root, dir))
	if len(list.Artifacts) != 1 || len(list.Evidence) != 3 || len(s.Subject) != 1 ||
		s.Subject[0].Digest["sha256"] != list.Artifacts[0].SHA256 || len(list.Revision) != 40 || list.Dirty {
		c.t.Errorf("%s has %+v, and of these is told: %v", dir, list, s.Subject)
	}
	if got := p.RunDetails.Metadata.InvocationId; got != invocation {
		c.t.Errorf("the build is called %s, want %s", got, invocation)
	}
}

// gitlabJob is a job of a pipeline, as far as the recipe has it.
type gitlabJob struct {
	Extends      string
	Variables    map[string]string
	BeforeScript []string `yaml:"before_script"`
	Script       []string
	AfterScript  []string `yaml:"after_script"`
	Cache        struct {
		Key   string
		Paths []string
	}
	Artifacts struct{ Paths []string }
	Trigger   struct {
		Include []struct{ Artifact, Job string }
	}
}

// testGitLab does what the pipelines of README.md say.
func testGitLab(c *ci) {
	var parent, child map[string]gitlabJob
	recipe(c.t, ".gitlab-ci.yml", &parent)
	child = map[string]gitlabJob{}
	c.sources("gitlab")
	c.must(exec.Command("rm", "-r", filepath.Join(c.root, "gitlab", "fleet")))
	text := recipe(c.t, "ci/build.yml", &child)
	c.must(exec.Command("mkdir", filepath.Join(c.root, "gitlab", "app", "ci")))
	c.write("gitlab/app/ci/build.yml", text)
	c.commit("gitlab/app")

	first := parent["matrix"]
	env := map[string]string{"FLEET_URL": "/fleet", "CI_JOB_URL": "https://git.example/jobs/7"}
	run := func(variables map[string]string, script []string) {
		c.t.Helper()
		all := maps.Clone(env)
		maps.Copy(all, variables)
		c.shell("/gitlab/app", strings.Join(script, "\n"), all)
	}
	run(first.Variables, first.Script)
	include := parent["targets"].Trigger.Include
	if len(include) != 1 || include[0].Job != "matrix" || !slices.Equal(first.Artifacts.Paths, []string{include[0].Artifact}) {
		c.t.Fatalf("the child pipeline is %v of %v", include, first.Artifacts.Paths)
	}
	jobs := map[string]gitlabJob{}
	if err := yaml.Unmarshal([]byte(c.read("gitlab/app/"+include[0].Artifact)), &jobs); err != nil || len(jobs) != 3 {
		c.t.Fatalf("the child pipeline is %v, %v", jobs, err)
	}
	c.must(exec.Command("rm", filepath.Join(c.root, "gitlab", "app", include[0].Artifact)))
	job := jobs["build globex"]
	how := jobs[job.Extends]
	if len(how.Script) == 0 || !strings.HasPrefix(job.Cache.Key, "stead-1-") || len(job.Cache.Paths) != 1 {
		c.t.Fatalf("the job is %+v", job)
	}
	if same := jobs["build acme"].Cache.Key; job.Cache.Key != same {
		c.t.Errorf("two targets with one lock have the keys %s and %s", job.Cache.Key, same)
	}
	cache := filepath.Join("gitlab", "app", job.Cache.Paths[0])
	c.restore(cache)
	maps.Copy(job.Variables, how.Variables)
	run(job.Variables, append(how.BeforeScript, how.Script...))
	run(job.Variables, how.AfterScript)
	c.proven(filepath.Join("gitlab", "app", how.Artifacts.Paths[0], "globex"), "https://git.example/jobs/7#globex")
	if left, err := os.ReadDir(filepath.Join(c.root, cache, "sha256")); err != nil || len(left) == 0 {
		c.t.Errorf("nothing is left to cache: %v, %v", left, err)
	}
}

// commit makes a folder of the container a git repository with all that is in it.
func (c *ci) commit(dir string) {
	c.t.Helper()
	for _, args := range [][]string{{"init", "-q"}, {"add", "--all"},
		{"-c", "user.name=A", "-c", "user.email=a@b.example", "commit", "-q", "-m", "all"}} {
		c.must(exec.Command("git", append([]string{"-C", filepath.Join(c.root, dir)}, args...)...))
	}
}

// addGit adds the machine's git, for an image for CI has one.
func (c *ci) addGit() {
	c.t.Helper()
	for _, name := range []string{"/usr/bin/git", "/usr/lib/git-core", "/usr/share/git-core"} {
		c.must(exec.Command("cp", "-a", "--no-target-directory", name, filepath.Join(c.root, name)))
	}
}

// testRecipes does what README.md says for CI, with a cache and without a network.
func testRecipes(t *testing.T, c *ci) {
	inner := *c.real
	inner.t = t
	c = &ci{&inner, c.root, c.bundle, c.name}
	c.addGit()
	for _, name := range []string{"dist", "made", "stead.lock"} {
		if err := os.RemoveAll(filepath.Join(c.root, "src", "app", name)); err != nil {
			t.Fatal(err)
		}
	}
	c.write("src/app/stead.toml", "fleet = \"../fleet\"\ntargets = [\"acme\", \"globex\"]\n"+
		"[build]\ncommand = [\"sh\", \"build\"]\nartifacts = [\"out/app\"]\n")
	c.shell("/src/app", "stead update --fleet /fleet", nil)
	c.commit("src/app")
	c.commit("fleet")
	testGitHub(c)
	testGitLab(c)
}
