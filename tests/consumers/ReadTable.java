import java.util.Iterator;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.CloseableIterator;

/** Reads topics as Flink's tables: prints the rows that are left when all changes in a topic are applied, in the order of their text. */
final class ReadTable {
    /** Arguments: brokers, format options ("debezium-json.schema-include=true" and the like, or "-"), then topic, columns, query of each table. */
    public static void main(String[] args) throws Exception {
        Configuration configuration = new Configuration();
        configuration.setString("parallelism.default", "1");
        configuration.setString("table.local-time-zone", "UTC");
        TableEnvironment tables =
                TableEnvironment.create(EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build());
        StringBuilder options = new StringBuilder();
        if (!args[1].equals("-")) {
            for (String option : args[1].split(",")) {
                String[] pair = option.split("=", 2);
                options.append(", '").append(pair[0]).append("' = '").append(pair[1]).append("'");
            }
        }
        for (int i = 2; i + 2 < args.length; i += 3) {
            String name = "t" + i;
            tables.executeSql("CREATE TABLE " + name + " (" + args[i + 1] + ") WITH ('connector' = 'kafka', 'topic' = '" + args[i] + "', "
                    + "'properties.bootstrap.servers' = '" + args[0] + "', 'properties.isolation.level' = 'read_committed', "
                    + "'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'format' = 'debezium-json'" + options + ")");
            print(args[i], tables, args[i + 2].replace("{t}", name));
        }
    }

    private static void print(String topic, TableEnvironment tables, String query) throws Exception {
        Map<String, Integer> rows = new TreeMap<>();
        int changes = 0;
        try (CloseableIterator<Row> all = tables.executeSql(query).collect()) {
            for (Iterator<Row> it = all; it.hasNext(); ) {
                Row row = it.next();
                boolean gone = row.getKind() == RowKind.DELETE || row.getKind() == RowKind.UPDATE_BEFORE;
                row.setKind(RowKind.INSERT);
                StringBuilder text = new StringBuilder();
                for (int field = 0; field < row.getArity(); field++) {
                    text.append(field == 0 ? "" : "|").append(row.getField(field));
                }
                rows.merge(text.toString(), gone ? -1 : 1, Integer::sum);
                changes++;
            }
        }
        System.out.println("table " + topic + " " + changes);
        rows.forEach((row, count) -> {
            for (int n = 0; n < count; n++) {
                System.out.println("row " + row);
            }
            // a row taken away that was never there
            if (count < 0) {
                System.out.println("missing " + row);
            }
        });
    }
}
