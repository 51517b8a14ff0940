// Many HTTP calls from one process, a bounded number at a time; benchmarks/million_calls.py runs it.
//
// It prints one line of JSON: how many calls were answered with 200, the wall and the CPU seconds.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func cpuSeconds() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

func answered(client *http.Client, url string) bool {
	response, err := client.Get(url)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	// Read, so that the connection can be used again.
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.StatusCode == http.StatusOK
}

func main() {
	url := flag.String("url", "", "the service")
	calls := flag.Int64("calls", 0, "how many")
	atOnce := flag.Int("at-once", 100, "how many at a time")
	flag.Parse()

	client := &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			MaxConnsPerHost: *atOnce, MaxIdleConns: *atOnce, MaxIdleConnsPerHost: *atOnce,
		},
	}
	var taken, good int64
	var callers sync.WaitGroup
	began, cpuBegan := time.Now(), cpuSeconds()
	for i := 0; i < *atOnce; i++ {
		callers.Add(1)
		go func() {
			defer callers.Done()
			for number := atomic.AddInt64(&taken, 1); number <= *calls; number = atomic.AddInt64(&taken, 1) {
				if answered(client, fmt.Sprintf("%s/members/%d", *url, number)) {
					atomic.AddInt64(&good, 1)
				}
			}
		}()
	}
	callers.Wait()
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"answered":    good,
		"seconds":     time.Since(began).Seconds(),
		"cpu_seconds": cpuSeconds() - cpuBegan,
	})
}
