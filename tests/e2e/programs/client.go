// Asks the service as a Go program does: `client <url> <image>`. Prints one line for each answer: what it was, the status
// and the body, with tabs between them.
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"time"
)

const row = `{"data": [[5.1, 3.5, 1.4, 0.2]]}`

var url string

func main() {
	url = os.Args[1]
	image, err := os.ReadFile(os.Args[2])
	check(err)
	for time := 0; time < 2; time++ {
		show("json", post("/iris/predict", "application/json", strings.NewReader(row)))
	}
	// The type of this reader says nothing of its length, so that it is sent in chunks.
	show("chunked", post("/iris/predict", "application/json", io.MultiReader(strings.NewReader(row))))
	show("expect", expecting("/iris/predict", row))
	show("raw", post("/inception_v3/predict/label", "image/jpeg", bytes.NewReader(image)))
	show("multipart", upload(image, func(form *multipart.Writer) (io.Writer, error) {
		return form.CreateFormFile("image", "cat.jpg")
	}))
	show("field", upload(image, func(form *multipart.Writer) (io.Writer, error) {
		return form.CreateFormField("image")
	}))
	show("too large", post("/iris/predict", "application/json", bytes.NewReader(make([]byte, 64<<20))))
	job()
}

func job() {
	accepted := post("/iris/jobs", "application/json", strings.NewReader(row))
	location, err := accepted.Location()
	check(err)
	show("accepted", accepted)
	for {
		answer, err := http.Get(location.String())
		check(err)
		body := read(answer)
		if !strings.Contains(body, `"queued"`) && !strings.Contains(body, `"running"`) {
			fmt.Printf("job\t%d\t%s\n", answer.StatusCode, body)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func upload(image []byte, part func(*multipart.Writer) (io.Writer, error)) *http.Response {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	writer, err := part(form)
	check(err)
	_, err = writer.Write(image)
	check(err)
	check(form.Close())
	return post("/inception_v3/predict/label", form.FormDataContentType(), &body)
}

// The body is sent once the server asks for it.
func expecting(path string, body string) *http.Response {
	request, err := http.NewRequest("POST", url+path, strings.NewReader(body))
	check(err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Expect", "100-continue")
	client := http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	answer, err := client.Do(request)
	check(err)
	return answer
}

func post(path string, kind string, body io.Reader) *http.Response {
	answer, err := http.Post(url+path, kind, body)
	check(err)
	return answer
}

func read(answer *http.Response) string {
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	check(err)
	return string(body)
}

func show(name string, answer *http.Response) {
	fmt.Printf("%s\t%d\t%s\n", name, answer.StatusCode, read(answer))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
