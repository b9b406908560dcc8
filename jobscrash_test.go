package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cmstap/internal/demo"
)

// TestCrashJobs kills cmstap with SIGKILL at random moments in front of a CMS
// that does everything later, starts it again, and compares what the jobs did
// with what the webhook got. CMSTAP_JOB_TRIALS and CMSTAP_JOB_SEED choose how
// many and which.
func TestCrashJobs(t *testing.T) {
	t.Parallel()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	runTrials(t, "CMSTAP_JOB", 3, func(seed uint64) *crash { return newJobCrash(t, program, seed) })
}

// jobCrash is a trial whose CMS does everything later.
type jobCrash struct {
	*crash
	random *lockedRand
	mu     sync.Mutex
	jobs   []*trialJob
}

// trialJob is a job of the CMS.
type trialJob struct {
	events  []about // what it does, in order
	doubt   []about // the events of the write if nobody saw the answer
	status  int     // of its result
	partly  bool    // it does some of it, and does not say what
	payload any
	running int  // how often it says that it is not done yet
	seen    bool // a client was told of it
	told    bool // somebody was told its result
}

// does tells whether the job ends as it should.
func (j *trialJob) does() bool { return j.status == http.StatusOK && !j.partly }

func newJobCrash(t *testing.T, program string, seed uint64) *crash {
	t.Helper()
	c, random := newTrial(program, seed)
	j := &jobCrash{crash: c, random: random}
	c.writers, c.write, c.verify, c.quiet = 4, j.writeJobs, j.verifyJobs, 1500*time.Millisecond
	c.configure(t, fmt.Sprintf(`
proxy: { listen: "127.0.0.1:0", upstream: %q, dialect: datocms }
outbox: { path: %q }
admin: { listen: "" }
recovery: { token: { value: x } }
webhooks:
  - { name: all, url: %q, topics: ["*.*"], retry: { delays: %s } }
`, serve(t, j).URL, t.TempDir(), serve(t, c.receiver).URL, crashDelays))
	return c
}

// ServeHTTP is the CMS.
func (j *jobCrash) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	j.random.nap(2 * time.Millisecond)
	if r.Method == http.MethodGet {
		j.result(w, r)
		return
	}
	job := j.promise(r)
	j.mu.Lock()
	id := len(j.jobs)
	j.jobs = append(j.jobs, job)
	j.mu.Unlock()
	j.random.nap(2 * time.Millisecond)
	reply(w, http.StatusAccepted, data(resource("job", fmt.Sprint(id))))
}

// promise makes a job of a write. A quarter of them fail.
func (j *jobCrash) promise(r *http.Request) *trialJob {
	job := &trialJob{status: http.StatusOK, running: j.random.below(2)}
	id := strings.Split(r.URL.Path, "/")[2]
	item := resource("item", id)
	switch {
	case strings.HasSuffix(r.URL.Path, "/bulk/publish"):
		for _, one := range resourceIn(r).Relationships["items"].Data.([]any) {
			job.events = append(job.events, about{"item.publish", one.(map[string]any)["id"].(string)})
		}
		job.doubt = job.events
		failed := j.random.below(3) // of two
		job.partly = failed == 1
		if job.payload = bulkResult(2-failed, failed); failed == 2 {
			job.events = nil
		}
		return job
	case strings.HasSuffix(r.URL.Path, "/duplicate"):
		item["id"] = "copy-of-" + id
		job.events, job.doubt = []about{{"item.create", "copy-of-" + id}}, []about{{"item.create", ""}, {"item.publish", ""}}
	case r.Method == http.MethodDelete:
		item["meta"] = map[string]any{"status": "published"}
		job.events = []about{{"item.unpublish", id}, {"item.delete", id}}
		job.doubt = job.events
	default:
		job.events, job.doubt = []about{{"item.update", id}}, []about{{"item.update", id}, {"item.publish", id}}
	}
	if job.payload = data(item); j.random.below(4) == 0 {
		job.status, job.payload, job.events = http.StatusUnprocessableEntity, data([]any{}), nil
	}
	return job
}

func (j *jobCrash) result(w http.ResponseWriter, r *http.Request) {
	job := j.job(strings.TrimPrefix(r.URL.Path, "/job-results/"))
	j.mu.Lock()
	running := job.running > 0
	job.running--
	job.told = job.told || !running
	j.mu.Unlock()
	if running {
		reply(w, http.StatusNotFound, data([]any{}))
		return
	}
	result := resource("job_result", "x")
	result["attributes"] = map[string]any{"status": job.status, "payload": job.payload}
	reply(w, http.StatusOK, data(result))
	j.crash.mu.Lock()
	defer j.crash.mu.Unlock()
	j.wake()
}

func (j *jobCrash) job(id string) *trialJob {
	j.mu.Lock()
	defer j.mu.Unlock()
	var n int
	if _, err := fmt.Sscan(id, &n); err != nil || n >= len(j.jobs) {
		return &trialJob{running: 1}
	}
	return j.jobs[n]
}

// writeJobs is one client: each of its writes is about records of its own. It
// asks for half of the results itself.
func (j *jobCrash) writeJobs(ctx context.Context, n int) {
	random := rand.New(rand.NewPCG(j.seed, uint64(100+n)))
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("r-%d-%d", n, i)
		method, path, body := "PUT", "/items/"+id, `{"data":{}}`
		switch random.IntN(4) {
		case 0:
			method = "DELETE"
		case 1:
			method, path = "POST", path+"/duplicate"
		case 2:
			method, path = "POST", "/items/bulk/publish"
			body = fmt.Sprintf(`{"data":{"relationships":{"items":{"data":[{"id":"%[1]s-1"},{"id":"%[1]s-2"}]}}}}`, id)
		}
		answer, _ := j.send(ctx, method, path, body)
		var promise struct{ Data struct{ Type, ID string } }
		if json.Unmarshal([]byte(answer), &promise) != nil || promise.Data.Type != "job" {
			continue // cmstap is down
		}
		job := j.job(promise.Data.ID)
		j.mu.Lock()
		job.seen = true
		j.mu.Unlock()
		if random.IntN(2) == 0 {
			j.ask(ctx, "GET", "/job-results/"+promise.Data.ID, "")
		}
		j.random.nap(5 * time.Millisecond)
	}
}

// recordOf is what a call in DatoCMS's form is about.
func recordOf(call demo.Call) about {
	var body struct {
		EntityType string `json:"entity_type"`
		EventType  string `json:"event_type"`
		Entity     struct{ ID string }
	}
	_ = json.Unmarshal(call.Body, &body)
	return about{body.EntityType + "." + body.EventType, body.Entity.ID}
}

// verifyJobs waits until every job has come to what it should, and then names
// what is missing or invented.
func (j *jobCrash) verifyJobs() []string {
	calls := j.settled(j.missingJobs)
	violations := j.missingJobs(calls)
	s := readCalls(calls, recordOf)
	j.mu.Lock()
	defer j.mu.Unlock()
	done, partly, mayBe := map[about]bool{}, map[about]bool{}, map[about]bool{}
	for _, job := range j.jobs {
		for _, key := range job.events {
			done[key], partly[key] = job.does(), job.partly
		}
		for _, key := range job.doubt {
			mayBe[key] = !job.seen
		}
		if job.does() {
			j.tally.accepted++
		} else {
			j.tally.refused++
		}
	}
	for key, ids := range s.confirmed {
		if !done[key] || len(ids) > 1 {
			violations = append(violations, fmt.Sprintf("%v has %d confirmed events, and was done: %v", key, len(ids), done[key]))
		}
	}
	strange := 0 // unconfirmed events of writes that the CMS never got
	for key, ids := range s.unconfirmed {
		switch _, known := mayBe[key]; {
		case key.entity == "" || !known:
			strange += len(ids)
		case !partly[key] && !mayBe[key], len(ids)+len(s.confirmed[key]) > 1:
			violations = append(violations, fmt.Sprintf("%v has %d unconfirmed events", key, len(ids)))
		}
	}
	if strange > 2*j.tally.inFlight { // a bulk write makes two
		violations = append(violations, fmt.Sprintf("%d unconfirmed events, but only %d requests were in flight", strange, j.tally.inFlight))
	}
	j.tally.calls = len(calls)
	j.tally.unconfirmed = events(s.unconfirmed)
	j.tally.duplicates = s.calls - events(s.confirmed) - events(s.unconfirmed)
	return violations
}

// missingJobs names what is not there yet. That a client saw the promise means
// that nothing may be in doubt.
func (j *jobCrash) missingJobs(calls []demo.Call) (missing []string) {
	s := readCalls(calls, recordOf)
	j.mu.Lock()
	defer j.mu.Unlock()
	for id, job := range j.jobs {
		if job.seen && !job.told {
			missing = append(missing, fmt.Sprintf("nobody asked for the result of job %d", id))
		}
		if !job.seen && all(s.unconfirmed, job.doubt) {
			continue
		}
		want := s.confirmed
		if job.partly {
			want = s.unconfirmed
		}
		if !all(want, job.events) {
			missing = append(missing, fmt.Sprintf("job %d (%d, seen by its client: %v) should make %v", id, job.status, job.seen, job.events))
		}
	}
	return missing
}

// all tells whether each of them has an event.
func all(by map[about]map[string]bool, keys []about) bool {
	for _, key := range keys {
		if len(by[key]) == 0 {
			return false
		}
	}
	return true
}
