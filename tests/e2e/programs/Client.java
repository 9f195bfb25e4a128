// Asks the service as a Java program does: `java Client.java <url> <image>`. Prints one line for each answer: what it
// was, the status and the body, with tabs between them.

import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;

public class Client {
    private static final String ROW = "{\"data\": [[5.1, 3.5, 1.4, 0.2]]}";
    // The defaults: it offers HTTP/2 with every first request on a connection.
    private static final HttpClient client = HttpClient.newHttpClient();
    private static String url;

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        Path image = Path.of(arguments[1]);
        for (int time = 0; time < 2; time++) {
            show("json", send(to("/iris/predict", "application/json").POST(BodyPublishers.ofString(ROW))));
        }
        // A stream has no length, so that it is sent in chunks.
        byte[] row = ROW.getBytes(StandardCharsets.UTF_8);
        show(
            "chunked",
            send(to("/iris/predict", "application/json")
                .POST(BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(row))))
        );
        List<CompletableFuture<HttpResponse<String>>> running = List.of(1, 2, 3, 4).stream()
            .map(each -> to("/iris/predict", "application/json").POST(BodyPublishers.ofString(ROW)).build())
            .map(request -> client.sendAsync(request, BodyHandlers.ofString()))
            .toList();
        for (CompletableFuture<HttpResponse<String>> each : running) {
            show("async", each.get());
        }
        show("raw", send(to("/inception_v3/predict/label", "image/jpeg").POST(BodyPublishers.ofFile(image))));
        show("multipart", upload("name=\"image\"; filename=\"cat.jpg\"", image));
        show("field", upload("name=\"image\"", image));
        show(
            "too large",
            send(to("/iris/predict", "application/json").POST(BodyPublishers.ofByteArray(new byte[64 << 20])))
        );
        job();
        webSocket();
    }

    private static HttpResponse<String> upload(String disposition, Path image) throws Exception {
        return send(to("/inception_v3/predict/label", "multipart/form-data; boundary=of-java")
            .POST(BodyPublishers.ofByteArrays(List.of(
                ("--of-java\r\nContent-Disposition: form-data; " + disposition + "\r\n").getBytes(),
                "Content-Type: image/jpeg\r\n\r\n".getBytes(),
                Files.readAllBytes(image),
                "\r\n--of-java--\r\n".getBytes()
            ))));
    }

    private static void webSocket() throws Exception {
        URI address = URI.create(url.replace("http", "ws") + "/iris/predict");
        try {
            client.newWebSocketBuilder().buildAsync(address, new WebSocket.Listener() {}).get();
            System.out.println("WebSocket\t101\t{}");
        } catch (ExecutionException error) {
            HttpResponse<?> answer = ((WebSocketHandshakeException) error.getCause()).getResponse();
            System.out.println("WebSocket\t" + answer.statusCode() + "\t" + answer.body());
        }
    }

    private static void job() throws Exception {
        HttpResponse<String> accepted =
            send(to("/iris/jobs", "application/json").POST(BodyPublishers.ofString(ROW)));
        show("accepted", accepted);
        URI job = URI.create(url).resolve(accepted.headers().firstValue("Location").orElseThrow());
        HttpResponse<String> answer;
        do {
            Thread.sleep(50);
            answer = send(HttpRequest.newBuilder(job));
        } while (answer.body().contains("\"queued\"") || answer.body().contains("\"running\""));
        show("job", answer);
    }

    private static HttpRequest.Builder to(String path, String type) {
        return HttpRequest.newBuilder(URI.create(url + path)).header("Content-Type", type);
    }

    private static HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
        return client.send(request.build(), BodyHandlers.ofString());
    }

    private static void show(String name, HttpResponse<String> answer) {
        System.out.println(name + "\t" + answer.statusCode() + "\t" + answer.body());
    }
}
