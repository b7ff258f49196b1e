// Prints keys and the partitions that Kafka's own Java client gives them: the vectors of tests/partitioner.rs.
// scripts/murmur2-vectors.sh runs it and writes tests/data/murmur2.tsv.

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

public class Murmur2 {
    static final int[] COUNTS = {1, 2, 3, 7, 16, 50};

    public static void main(String[] args) {
        List<byte[]> keys = new ArrayList<>();
        // every length around the four bytes that murmur2 takes at a time
        for (int length = 0; length <= 20; length++) {
            byte[] key = new byte[length];
            for (int i = 0; i < length; i++) key[i] = (byte) (i + 1);
            keys.add(key);
        }
        // bytes that are negative in Java
        for (int length = 1; length <= 9; length++) {
            byte[] key = new byte[length];
            for (int i = 0; i < length; i++) key[i] = (byte) (255 - i);
            keys.add(key);
        }
        keys.add(new byte[] {0});
        keys.add(new byte[] {0, 0, 0, 0, 0});
        keys.add(new byte[] {(byte) 0x80, 0, 0, (byte) 0x80, 0x7f});
        String[] texts = {
            "a", "key", "{\"id\":1}", "{\"id\":7}", "{\"id\":-9223372036854775808}", "{\"shop\":\"Zürich\",\"id\":3}", "日本語", "🦀🦀",
            "{\"id\":\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"}", "\u0000", "null"
        };
        for (String text : texts) keys.add(text.getBytes(StandardCharsets.UTF_8));
        Random random = new Random(42);
        for (int i = 0; i < 100; i++) {
            byte[] key = new byte[random.nextInt(64)];
            random.nextBytes(key);
            keys.add(key);
        }
        byte[] large = new byte[10_000];
        random.nextBytes(large);
        keys.add(large);

        StringBuilder head = new StringBuilder("key");
        for (int count : COUNTS) head.append('\t').append(count);
        System.out.println(head);
        for (byte[] key : keys) {
            StringBuilder line = new StringBuilder();
            for (byte b : key) line.append(String.format("%02x", b));
            for (int count : COUNTS) line.append('\t').append(BuiltInPartitioner.partitionForKey(key, count));
            System.out.println(line);
        }
    }
}
